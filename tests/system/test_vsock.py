"""A real Linux guest's vsock: bytes whole both ways, many connections, hosts that vanish, resets."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

from stratovirt.errors import ConfigError
from stratovirt.testing import Vm, VmOptions, launched
from tests import guests
from tests.streams import read_exactly
from tests.system.vm import started

MIB = 1 << 20
WITHIN = 60  # seconds
CID = 77
MANY = 100
ECHO = "(vsock echo 7 &) >/tmp/echo 2>&1"


@pytest.fixture
def options(cloud_kernel: Path, tmp_path: Path) -> VmOptions:
    try:
        initrd = guests.shell_initramfs(cloud_kernel)
    except ConfigError as error:
        pytest.skip(str(error))
    return with_vsock(cloud_kernel, initrd, tmp_path)


def with_vsock(kernel: Path, initrd: Path, directory: Path) -> VmOptions:
    device = f"virtio-vsock-device,guest-cid={CID},uds-path={directory}/v.sock"
    return VmOptions(kernel=kernel, initrd=initrd, accel="tcg", options=("-device", device))


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    data = bytearray()
    with trio.fail_after(WITHIN):
        async for chunk in stream:
            data += chunk
    return bytes(data)


async def connected(path: Path, port: int) -> trio.SocketStream:
    """A connection to the guest's ``port``, once somebody listens there."""
    with trio.fail_after(WITHIN):
        while True:
            stream = await trio.open_unix_socket(path)
            await stream.send_all(b"CONNECT %d\n" % port)
            answer = b""
            while not answer.endswith(b"\n") and (more := await stream.receive_some(1)):
                answer += more
            if answer:
                assert answer.startswith(b"OK ")
                return stream
            await stream.aclose()
            await trio.sleep(0.02)


@asynccontextmanager
async def listening(path: Path) -> AsyncIterator[trio.SocketListener]:
    """A listener of the host's."""
    with trio.socket.socket(trio.socket.AF_UNIX) as sock:
        await sock.bind(str(path))
        sock.listen(MANY)
        yield trio.SocketListener(sock)


async def test_a_guest_and_its_host_talk_over_vsock(options: VmOptions, tmp_path: Path) -> None:
    """One boot for all of it."""
    socket, snapshot = tmp_path / "v.sock", tmp_path / "snapshot"
    async with launched(options) as vm:
        await vm.booted()
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        assert (await vm.run("vsock cid")).check() == f"{CID}\n"
        (await vm.run(ECHO)).check()
        await a_megabyte_to_the_host_arrives_whole(vm, tmp_path)
        await a_megabyte_to_the_guest_arrives_whole(vm, socket)
        await a_megabyte_is_echoed(socket)
        await many_connections_at_a_time(vm, tmp_path)
        await nobody_listens(vm, socket)
        await a_host_vanishes(vm, tmp_path)
        await a_stuck_host_delays_nobody_else(vm, tmp_path)
        await a_reset_ends_all_connections(vm, socket)
        await it_is_saved(vm, tmp_path, snapshot)
    device = f"virtio-vsock-device,guest-cid={CID + 1},uds-path={tmp_path}/other.sock"
    again = ("-device", device, "-incoming", f"file:{snapshot}")
    async with launched(replace(options, prompt=None, options=again)) as vm:
        await its_connections_are_gone_and_new_ones_come(vm, tmp_path / "other.sock")


async def a_megabyte_to_the_host_arrives_whole(vm: Vm, directory: Path) -> None:
    async with listening(directory / "v.sock_1001") as listener, trio.open_nursery() as nursery:
        send = f"head -c {MIB} /dev/urandom >/tmp/out; vsock connect 2 1001 </tmp/out; sha256sum </tmp/out"
        received: list[bytes] = []

        async def receive() -> None:
            async with await listener.accept() as stream:
                received.append(await read_all(stream))

        nursery.start_soon(receive)
        digest = (await vm.run(send, seconds=WITHIN)).check().split()[0]
    assert len(received[0]) == MIB
    assert hashlib.sha256(received[0]).hexdigest() == digest


async def a_megabyte_to_the_guest_arrives_whole(vm: Vm, socket: Path) -> None:
    data = os.urandom(MIB)
    (await vm.run("(vsock listen 8 </dev/null | sha256sum >/tmp/sum) >/dev/null 2>&1 &")).check()
    async with await connected(socket, 8) as stream:
        await stream.send_all(data)
        await stream.send_eof()
        assert await read_all(stream) == b""
    waited = await vm.run("while ! [ -s /tmp/sum ]; do usleep 50000; done; cat /tmp/sum", seconds=WITHIN)
    assert waited.check().split()[0] == hashlib.sha256(data).hexdigest()


async def a_megabyte_is_echoed(socket: Path) -> None:
    """Both ways at the same time."""
    data = os.urandom(MIB)
    async with await connected(socket, 7) as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            await stream.send_all(data)
            await stream.send_eof()

        nursery.start_soon(send)
        assert await read_all(stream) == data


async def many_connections_at_a_time(vm: Vm, directory: Path) -> None:
    """Of the guest's and, meanwhile, of the host's."""

    async def echo(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data)

    async def ask(number: int) -> None:
        async with await connected(directory / "v.sock", 7) as stream:
            await stream.send_all(b"%d" % number)
            await stream.send_eof()
            assert await read_all(stream) == b"%d" % number

    async with listening(directory / "v.sock_1002") as listener, trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, echo, [listener]))
        async with trio.open_nursery() as callers:
            for number in range(MANY):
                callers.start_soon(ask, number)
            assert (await vm.run(f"vsock many 2 1002 {MANY}", seconds=WITHIN)).check() == f"{MANY}\n"
        nursery.cancel_scope.cancel()


async def nobody_listens(vm: Vm, socket: Path) -> None:
    refused = await vm.run("vsock connect 2 999 </dev/null")
    assert (refused.status, refused.output) == (1, "vsock: connect: Connection reset by peer\n")
    async with await trio.open_unix_socket(socket) as stream:
        await stream.send_all(b"CONNECT 999\n")
        assert await read_all(stream) == b""


async def a_host_vanishes(vm: Vm, directory: Path) -> None:
    """The guest reads the end of what it had sent, and is told when it writes."""
    async with listening(directory / "v.sock_1003") as listener:
        (await vm.run("(sleep 1000 | vsock connect 2 1003 >/tmp/last) >/dev/null 2>&1 &")).check()
        async with await listener.accept() as stream:
            await stream.send_all(b"last words")
    (await vm.run("until [ \"$(cat /tmp/last)\" = 'last words' ]; do usleep 50000; done")).check()
    async with listening(directory / "v.sock_1004") as listener, trio.open_nursery() as nursery:

        async def hang_up() -> None:
            await (await listener.accept()).aclose()

        nursery.start_soon(hang_up)
        sends = await vm.run("vsock connect 2 1004 </dev/zero", seconds=WITHIN)
        assert sends.status == 1


async def a_stuck_host_delays_nobody_else(vm: Vm, directory: Path) -> None:
    async with listening(directory / "v.sock_1005") as listener:
        (await vm.run("(head -c 2000000 /dev/zero | vsock connect 2 1005 &) >/dev/null 2>&1")).check()
        async with await listener.accept() as stuck:
            await a_megabyte_is_echoed(directory / "v.sock")
            assert await read_exactly(stuck, 2_000_000, seconds=WITHIN) == bytes(2_000_000)


async def a_reset_ends_all_connections(vm: Vm, socket: Path) -> None:
    async with await connected(socket, 7) as stream:
        await vm.console.type("reboot -f")
        with trio.fail_after(WITHIN):
            assert await stream.receive_some(1) == b""
    await vm.console.expect(b"GUEST-UP", seconds=vm.options.boot_seconds)
    await vm.booted()
    (await vm.run(ECHO)).check()
    await a_megabyte_is_echoed(socket)


async def it_is_saved(vm: Vm, directory: Path, snapshot: Path) -> None:
    """With a connection that is stuck, and one that listens."""
    async with listening(directory / "v.sock_1006") as listener, vm.qmp() as qmp:
        stuck = "(vsock connect 2 1006 </dev/zero; echo $? >/tmp/status) >/dev/null 2>&1 &"
        (await vm.run(stuck)).check()
        async with await listener.accept():
            await qmp.execute("migrate", uri=f"file:{snapshot}")
            await qmp.execute("quit")
            assert await vm.exit_code() == 0


async def its_connections_are_gone_and_new_ones_come(vm: Vm, socket: Path) -> None:
    """At the address and the path of the new command line."""
    status = await vm.run("until [ -s /tmp/status ]; do usleep 50000; done; cat /tmp/status", seconds=WITHIN)
    assert status.check() == "1\n"
    assert (await vm.run("vsock cid")).check() == f"{CID + 1}\n"
    await a_megabyte_is_echoed(socket)


async def test_a_socket_that_a_dead_process_left_is_taken_and_a_live_one_is_not(
    cloud_kernel: Path, tmp_path: Path
) -> None:
    device = ("-device", f"virtio-vsock-device,guest-cid=3,uds-path={tmp_path}/v.sock")
    boot = ("-machine", "microvm,accel=tcg", "-kernel", str(cloud_kernel), "-S", *device)
    qmp = ("-qmp", f"unix:{tmp_path}/qmp.sock,server,nowait")
    async with started(*boot, *qmp, directory=tmp_path) as first, first.qmp():
        async with started(*boot, directory=tmp_path) as second:
            assert await second.exit_code() == 1
            assert "another process listens on this socket" in second.stderr()
        first.process.kill()
        await first.exit_code()
    assert (tmp_path / "v.sock").exists()
    async with started(*boot, *qmp, directory=tmp_path) as again, again.qmp() as client:
        await client.execute("quit")
        assert await again.exit_code() == 0
    assert not (tmp_path / "v.sock").exists()
