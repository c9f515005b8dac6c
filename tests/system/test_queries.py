"""What a machine says of itself over QMP is what /proc and its guest say."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stratovirt.accel.topology import Topology
from tests.system.qmp import Qmp
from tests.system.vm import Vm, started

Options = Callable[..., list[str]]

FIRST = ("-smp", "4,sockets=2,cores=2,maxcpus=4", "-m", "256", "-name", "first")
SECOND = ("-smp", "1", "-m", "512", "-uuid", "550e8400-e29b-41d4-a716-446655440000")
QUERIES = (
    *("query-name", "query-uuid", "query-cpus", "query-cpus-fast", "query-hotpluggable-cpus"),
    *("query-chardev", "query-memory-size-summary"),
)
LINE_END = b"\r\n"


def vcpu_threads(vm: Vm) -> list[int]:
    """Host threads of the process that run vCPUs, by their names."""
    tasks = Path(f"/proc/{vm.pid}/task").iterdir()
    return [int(task.name) for task in tasks if (task / "comm").read_text().startswith("vcpu-")]


def largest_mappings(vm: Vm, size: int) -> int:
    """How many mappings of the process have ``size`` bytes."""
    ranges = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) ", Path(f"/proc/{vm.pid}/maps").read_text(), re.MULTILINE)
    return sum(int(end, 16) - int(begin, 16) == size for begin, end in ranges)


async def asked(qmp: Qmp) -> dict[str, Any]:
    return {query: await qmp.execute(query) for query in QUERIES}


async def test_two_machines_answer_differently_and_as_proc_says(guest: Options, tmp_path: Path) -> None:
    seen = []
    for number, configuration in enumerate((FIRST, SECOND)):
        async with started(*guest("ticks", "-S", *configuration), directory=tmp_path) as vm, vm.qmp() as qmp:
            answers = await asked(qmp)
            cpus = answers["query-cpus"]
            assert {cpu["thread_id"] for cpu in cpus} == set(vcpu_threads(vm))
            assert len(cpus) == (4, 1)[number]
            memory = answers["query-memory-size-summary"]["base-memory"]
            assert memory == (256 << 20, 512 << 20)[number]
            assert largest_mappings(vm, memory) == 1
            for chardev in answers["query-chardev"]:
                path = chardev["filename"].removeprefix("unix:").removesuffix(",server=on")
                assert os.path.exists(path)
            await qmp.execute("quit")
            await vm.exit_code()
        seen.append(answers)
    same = [query for query in QUERIES if seen[0][query] == seen[1][query]]
    assert same == ["query-chardev"]


async def test_the_guest_sees_what_the_queries_say(guest: Options, tmp_path: Path) -> None:
    async with (
        started(*guest("shell", "-smp", "2", "-m", "384"), directory=tmp_path) as vm,
        vm.console() as console,
        vm.qmp() as qmp,
    ):
        await console.expect(b"built-in commands")
        await console.type("nproc; grep MemTotal /proc/meminfo; echo DO''NE")
        said = await console.expect(b"DONE" + LINE_END)
        cpus = int(re.search(rb"^(\d+)\r$", said, re.MULTILINE)[1])  # type: ignore[index]
        usable = int(re.search(rb"MemTotal: +(\d+) kB", said)[1]) << 10  # type: ignore[index]
        assert len(await qmp.execute("query-cpus")) == cpus == 2
        memory = (await qmp.execute("query-memory-size-summary"))["base-memory"]
        assert memory == 384 << 20
        assert 0.8 * memory < usable < memory, "all but what the kernel keeps for itself"
        await qmp.execute("quit")
        assert await vm.exit_code() == 0


# One line for each CPU: socket, die, core, threads of its core.
TOPOLOGY = """\
cd /sys/devices/system/cpu; for cpu in $(seq 0 $(($(nproc) - 1))); do cd cpu$cpu/topology; \
echo CPU $cpu $(cat physical_package_id die_id core_id thread_siblings_list); cd ../..; done; \
grep -c 'siblings.*: '$(($(nproc) / 2))'$' /proc/cpuinfo; echo DO''NE"""


def linux_place(topology: Topology, place: dict[str, int]) -> tuple[int, int, int]:
    """Socket, die and core. Linux 6.1 numbers the cores of a socket: its core_id has the bits of the die."""
    die = place["die-id"]
    core = die << topology.die_shift - topology.core_shift | place["core-id"]
    return place["socket-id"], die, core


@pytest.mark.parametrize(
    "topology",
    [Topology(sockets=2, cores=3, threads=2), Topology(sockets=2, dies=2, clusters=2)],
    ids=["gaps-and-threads", "dies-and-clusters"],
)
async def test_linux_sees_the_topology_that_the_queries_say(
    guest: Options, tmp_path: Path, topology: Topology
) -> None:
    smp = ",".join(f"{name}={count}" for name, count in topology._asdict().items())
    async with (
        started(*guest("shell", "-smp", f"{topology.places},{smp}"), directory=tmp_path) as vm,
        vm.console() as console,
        vm.qmp() as qmp,
    ):
        await console.expect(b"built-in commands")
        await console.type(TOPOLOGY)
        said = (await console.expect(b"DONE" + LINE_END)).decode()
        cpus = await qmp.execute("query-cpus")
        await qmp.execute("quit")
        assert await vm.exit_code() == 0
    places = [linux_place(topology, cpu["props"]) for cpu in cpus]
    lines = re.findall(r"^CPU (\d+) (\d+) (\d+) (\d+) (\S+)", said, re.MULTILINE)
    assert [tuple(map(int, line[1:4])) for line in lines] == places
    first = [cpu["CPU"] for cpu in cpus if cpu["props"]["thread-id"] == 0]
    siblings = [f"{cpu}-{cpu + topology.threads - 1}" if topology.threads > 1 else f"{cpu}" for cpu in first]
    assert [lines[cpu][4] for cpu in first] == siblings
    assert re.search(rf"^{topology.places}\r$", said, re.MULTILINE), "siblings: those of half the machine"
