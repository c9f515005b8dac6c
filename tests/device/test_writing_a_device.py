"""docs/writing-a-device.md: its device works as pasted, in the page's own test and in a Linux guest."""

from __future__ import annotations

import os
import re
import shutil
import struct
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

import stratovirt
from stratovirt.devices.virtio.device import VirtioDevice
from stratovirt.errors import ConfigError
from stratovirt.testing import VmOptions, launched
from stratovirt.testing.process import COMMAND
from stratovirt.tools.guest import publish
from stratovirt.tools.initramfs import build, find_busybox
from stratovirt.tools.kernels import Kernel
from tests import guests
from tests.security.test_two_threads import ACTIONS, driven_by

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-device.md"
BLOCK = re.compile(r"`([^`]+\.py)`[^`]*\n\n```(?:python|diff)\n(.*?)^```", re.DOTALL | re.MULTILINE)
CODE: dict[str, str] = dict(BLOCK.findall(PAGE.read_text("utf-8")))
"""The page's code by the file that it belongs into."""
DEVICE = "src/stratovirt/devices/virtio/keypad.py"
TEST = "tests/device/test_keypad.py"
EDITS = tuple(f"src/stratovirt/{file}.py" for file in ("cli/devices", "nursery/slots", "nursery/plugging"))
MODULE = "stratovirt.devices.virtio.keypad"
LINES = 50
INPUT_EVENT = struct.Struct("<qqHHi")  # struct input_event: time, type, code, value
EV_KEY, KEY_2, KEY_4 = 1, 3, 5
WAIT = "until [ -e {} ]; do usleep 10000; done"


@pytest.fixture
def keypad(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], VirtioDevice]:
    """The page's class, importable where the page says."""
    module = ModuleType(MODULE)
    run(DEVICE, module.__dict__)
    monkeypatch.setitem(sys.modules, MODULE, module)
    made: Callable[[int], VirtioDevice] = module.__dict__["VirtioKeypad"]
    return made


def run(file: str, names: dict[str, Any]) -> None:
    exec(compile(CODE[file], file, "exec"), names)


def test_the_page_has_a_device_of_fifty_lines_its_test_and_its_options() -> None:
    assert CODE.keys() == {DEVICE, TEST, *EDITS}
    assert len([line for line in CODE[DEVICE].splitlines() if line]) <= LINES


@pytest.mark.usefixtures("keypad")
def test_the_test_of_the_page_passes() -> None:
    names: dict[str, Any] = {}
    run(TEST, names)
    [test] = [value for name, value in names.items() if name.startswith("test_")]
    test()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
def test_a_hostile_driver_does_no_harm(
    keypad: Callable[[int], VirtioDevice], actions: list[tuple[str, int, object]]
) -> None:
    with ExitStack() as claimed:
        source, keyboard = os.pipe2(os.O_NONBLOCK)
        claimed.callback(os.close, source)
        claimed.callback(os.close, keyboard)
        os.write(keyboard, b"1234567890" * 6)
        driven_by(keypad(source), actions)


@pytest.fixture
def pasted(tmp_path: Path) -> tuple[str, ...]:
    """How StratoVirt is called with everything on the page done to it."""
    shutil.copytree(Path(stratovirt.__file__).parent, tmp_path / "src" / "stratovirt")
    (tmp_path / DEVICE).write_text(CODE[DEVICE])
    for file in EDITS:
        path = tmp_path / file
        path.write_text(edited(path.read_text(), CODE[file]))
    return ("env", f"PYTHONPATH={tmp_path / 'src'}", *COMMAND)


def edited(text: str, diff: str) -> str:
    """``text`` with the lines of ``diff`` that begin with + behind those that do not."""
    done, rest = "", text
    for line in diff.splitlines(keepends=True):
        if line.startswith("+"):
            done += line[1:]
        else:
            before, found, rest = rest.partition(line[1:])
            assert found, f"the page looks for {line!r}"
            done += before + found
    return done + rest


async def test_a_linux_guest_reads_what_is_typed(tmp_path: Path, pasted: tuple[str, ...]) -> None:
    try:
        kernel = guests.cloud_kernel()
        image = build(
            Kernel.at(kernel), find_busybox(guests.cache_directory()), modules=("virtio_input", "evdev")
        )
    except ConfigError as error:
        pytest.skip(str(error))
    keys = tmp_path / "keys"
    os.mkfifo(keys)
    options = VmOptions(
        kernel=kernel,
        initrd=publish(image, tmp_path / "initramfs"),
        accel="tcg",
        command=pasted,
        options=("-device", f"virtio-keypad-device,path={keys}"),
    )
    async with launched(options) as vm:
        await vm.booted()
        named = (await vm.run("grep -l keypad /sys/class/input/event*/device/name")).check()
        device = named.split("/")[4]
        reads = f"exec 3</dev/input/{device}; echo >/tmp/open; head -c 192 <&3 >/tmp/events; echo >/tmp/read"
        (await vm.run(f"({reads}) >/dev/null 2>&1 &")).check()
        (await vm.run(WAIT.format("/tmp/open"))).check()
        keys.write_text("4?2\n")
        (await vm.run(WAIT.format("/tmp/read"))).check()
        events = INPUT_EVENT.iter_unpack(await vm.pull("/tmp/events"))
        pressed = [(code, value) for _, _, kind, code, value in events if kind == EV_KEY]
        assert pressed == [(KEY_4, 1), (KEY_4, 0), (KEY_2, 1), (KEY_2, 0)]
