"""The recipes of docs/networking.md work when they are pasted, one after the other."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.network import Namespace, namespace
from tests.recipes import Paste, recipes

PAGE = "networking.md"


def renamed(recipe: str, name: str, net: Namespace) -> str:
    """The recipe with the namespace ``net``, which is there already, in place of its own."""
    recipe = recipe.replace(f"ip netns add {name}\n", "")
    return re.sub(rf"\b{name}\b", net.name, recipe)


async def test_user_networking_and_hot_plug(tmp_path: Path, cloud_kernel: Path) -> None:
    if shutil.which("passt") is None:
        pytest.skip("passt is not installed")
    machine, guest, host, *_, plug = recipes(PAGE)
    with namespace() as net:
        net.add_uplink()
        paste = Paste(tmp_path, net.command())
        async with paste.guest(machine) as shell:
            (await shell.run(guest.replace(" &", " >/dev/null 2>&1 &"))).check()
            (await shell.run("until netstat -ltn | grep -q :22; do usleep 20000; done")).check()
            with pytest.raises(subprocess.CalledProcessError) as refused:  # as ncat -i ends
                await trio.to_thread.run_sync(paste.run, host)
            assert "welcome" in refused.value.stdout
            shown = await trio.to_thread.run_sync(paste.run, plug)
            assert "net1: index=0,type=nic" in shown


async def test_a_tap_and_one_that_a_manager_opens(tmp_path: Path, cloud_kernel: Path) -> None:
    _, _, _, machine, guest, *_ = recipes(PAGE)
    [getfd] = recipes(PAGE, "python")
    with namespace() as net:
        paste = Paste(tmp_path)
        async with paste.guest(renamed(machine, "guests", net)) as shell:
            assert "3 packets received" in (await shell.run(guest)).check()
            manager = Paste(tmp_path, net.command())
            shown = await trio.to_thread.run_sync(manager.run, getfd, (sys.executable, "-c"))
            assert " \\ net1: index=0,type=tap,ifname=tap1" in shown


async def test_two_taps_on_a_bridge(tmp_path: Path, cloud_kernel: Path) -> None:
    *_, machine, _ = recipes(PAGE)
    with namespace() as net:
        async with Paste(tmp_path).guest(renamed(machine, "lan", net)) as shell:
            (await shell.run("ip link set eth0 up; ip link set eth1 up")).check()
            assert (await shell.run("ls -d /sys/class/net/eth0/queues/rx-*")).check().count("rx-") == 2
            asked = "ip address add 10.0.0.2/24 dev eth0; ping -c 1 -W 1 10.0.0.3; true"
            (await shell.run(asked)).check()
            # The question who has that address leaves by one card and comes in by the other.
            heard = "until [ $(cat /sys/class/net/eth1/statistics/rx_packets) -gt 0 ]; do usleep 20000; done"
            (await shell.run(heard)).check()
