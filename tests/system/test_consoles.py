"""hvc0 of a real Linux guest: a login, megabytes without loss, and readers that are late or stuck."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import trio

from stratovirt.client import QmpCommandError
from stratovirt.errors import ConfigError
from stratovirt.testing import GuestConsole, RecordedQmp, Vm, VmOptions, launched, open_socket
from stratovirt.testing.options import default_initrd, default_kernel
from tests.streams import read_exactly

MIB = 1 << 20
WITHIN = 60  # seconds
LOGIN = (
    "echo root::0:0::/root:/bin/sh >/etc/passwd;"
    " (setsid getty -L 0 hvc0 vt100; echo out >/tmp/out) >/dev/null 2>&1 &"
)
RECEIVE = f"(stty raw -echo; echo ready; head -c {MIB} | sha256sum >/tmp/sum) </dev/hvc0 >/dev/hvc0 2>&1 &"
SENT = 3 * MIB  # more than port and socket hold
SEND = "(stty raw; for i in $(seq 24); do cat /tmp/data; done; echo sent >/tmp/sent) <>/dev/hvc0 >&0 2>&1 &"


@pytest.fixture(scope="module", autouse=True)
def _guest() -> None:
    try:
        default_initrd(default_kernel().image)
    except ConfigError as error:
        pytest.skip(str(error))


async def until_there(vm: Vm, path: str) -> str:
    """The content of a file in the guest, once it has any."""
    return (await vm.run(f"while ! [ -s {path} ]; do usleep 50000; done; cat {path}", seconds=WITHIN)).check()


async def test_a_console_on_a_socket(tmp_path: Path) -> None:
    """One boot for all of it."""
    socket = tmp_path / "hvc0.sock"
    options = (
        *("-chardev", f"socket,id=hvc,path={socket},server,nowait"),
        *("-chardev", f"file,id=log,path={tmp_path}/log"),
        *("-device", "virtio-serial-device,id=serial0", "-device", "virtconsole,chardev=hvc,id=console0"),
        *("-device", "virtconsole,chardev=log,id=console1"),
    )  # fmt: skip
    async with launched(VmOptions(accel="tcg", options=options)) as vm:
        await vm.booted()
        (await vm.run("echo early >/dev/hvc0; echo to the file >/dev/hvc1")).check()
        await a_late_reader_sees_what_was_printed_before(socket)
        await a_person_logs_in(vm, socket)
        await a_megabyte_arrives_whole(vm, socket)
        await output_waits_for_a_stuck_reader_and_qmp_does_not(vm, socket)
        assert (tmp_path / "log").read_bytes() == b"to the file\r\n"


BACKENDS: dict[str, dict[str, Any]] = {
    "server": {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": "server.sock"}}}},
    "client": {
        "type": "socket",
        "data": {"addr": {"type": "unix", "data": {"path": "client.sock"}}, "server": False},
    },
    "pty": {"type": "pty", "data": {}},
    "file": {"type": "file", "data": {"out": "hot.log"}},
    "null": {"type": "null", "data": {}},
    "ring": {"type": "ringbuf", "data": {"size": 1024}},
}


async def test_consoles_come_and_go_on_every_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice, so that ports and character devices are used again; the first time the guest has no console."""
    monkeypatch.chdir(tmp_path)
    options = ("-device", "virtio-serial-device,max_ports=6")
    async with launched(VmOptions(accel="tcg", options=options)) as vm, vm.qmp() as qmp:
        await vm.booted()
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind("client.sock")
                listener.listen()
                ptys = await plug_all(vm, qmp)
                await everybody_hears_their_console(vm, qmp, listener, ptys)
            await unplug_all(vm, qmp)
            os.unlink("client.sock")
        assert [one["label"] for one in await qmp.execute("query-chardev")] == ["console", "compat_monitor0"]


async def plug_all(vm: Vm, qmp: RecordedQmp) -> str:
    """A console on each backend, the first as hvc0; the pty's path."""
    path = ""
    for number, (id, backend) in enumerate(BACKENDS.items()):
        added = await qmp.execute("chardev-add", {"id": id, "backend": backend})
        path = added.get("pty", path)
        await qmp.execute("device_add", {"id": f"console-{id}", "driver": "virtconsole", "chardev": id})
        await on_console(vm, number, "true")
        with pytest.raises(QmpCommandError, match=f'in use by device "console-{id}"'):
            await qmp.execute("chardev-remove", {"id": id})
    return path


async def on_console(vm: Vm, number: int, do: str) -> None:
    """Run ``do`` on hvc ``number``, once the guest has it."""
    opened = f"(until ({do}) 2>/dev/null <>/dev/hvc{number} >&0; do usleep 50000; done)"
    (await vm.run(opened, seconds=WITHIN)).check()


async def everybody_hears_their_console(vm: Vm, qmp: RecordedQmp, listener: socket.socket, pty: str) -> None:
    for number, id in enumerate(BACKENDS):
        await on_console(vm, number, f"stty raw; echo this is {id}")
    assert await qmp.execute("ringbuf-read", {"device": "ring", "size": 100}) == "this is ring\n"
    assert Path("hot.log").read_bytes() == b"this is file\n"
    async with await open_socket(Path("server.sock")) as stream:
        assert await read_exactly(stream, 15, seconds=WITHIN) == b"this is server\n"
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(listener.accept()[0]))
    async with stream:
        assert await read_exactly(stream, 15, seconds=WITHIN) == b"this is client\n"
    async with trio.lowlevel.FdStream(os.open(pty, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)) as terminal:
        assert await read_exactly(terminal, 12, seconds=WITHIN) == b"this is pty\n"


async def unplug_all(vm: Vm, qmp: RecordedQmp) -> None:
    for id in BACKENDS:
        await qmp.execute("device_del", {"id": f"console-{id}"})
        await qmp.execute("chardev-remove", {"id": id})
    gone = "while ls /sys/class/virtio-ports/vport* >/dev/null 2>&1; do usleep 50000; done"
    (await vm.run(gone, seconds=WITHIN)).check()


async def a_late_reader_sees_what_was_printed_before(socket: Path) -> None:
    async with await open_socket(socket) as stream:
        assert await read_exactly(stream, 7, seconds=WITHIN) == b"early\r\n"


async def a_person_logs_in(vm: Vm, socket: Path) -> None:
    (await vm.run(LOGIN)).check()
    async with await open_socket(socket) as stream:
        person = GuestConsole(stream)
        await person.expect(b"login: ")
        await person.type("root")
        await person.expect(b"# ")
        await person.type("tty; echo $((6 * 7))")
        await person.expect(b"/dev/hvc0")
        await person.expect(b"42")
        await person.type("exit")
        assert await until_there(vm, "/tmp/out") == "out\n"


async def a_megabyte_arrives_whole(vm: Vm, socket: Path) -> None:
    data = os.urandom(MIB)
    async with await open_socket(socket) as stream:
        (await vm.run(RECEIVE)).check()
        await GuestConsole(stream).expect(b"ready")
        await stream.send_all(data)
        assert (await until_there(vm, "/tmp/sum")).split()[0] == hashlib.sha256(data).hexdigest()


async def output_waits_for_a_stuck_reader_and_qmp_does_not(vm: Vm, socket: Path) -> None:
    await vm.push("/tmp/data", data := os.urandom(SENT // 24))
    async with await open_socket(socket) as stuck, vm.qmp() as qmp:
        await vm.console.type(SEND)
        begin = await read_exactly(stuck, 1000, seconds=WITHIN)
        for _ in range(100):
            assert (await qmp.execute("query-status"))["running"]
        assert begin + await read_exactly(stuck, SENT - len(begin), seconds=WITHIN) == data * 24
    assert await until_there(vm, "/tmp/sent") == "sent\n"
