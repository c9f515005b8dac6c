"""file, null and ringbuf: they take all output, give no input, and refuse at open what cannot work."""

import os
import resource
from pathlib import Path

import pytest
import trio
import trio.testing

from stratovirt.chardev.protocol import Chardev
from stratovirt.chardev.sinks import File, Null, RingBuffer
from stratovirt.errors import ConfigError


async def write(device: Chardev, *pieces: bytes) -> None:
    async def handler(stream: trio.abc.Stream) -> None:
        for piece in pieces:
            await stream.send_all(piece)

    device.open()
    await device.serve(handler)
    device.close()


async def test_a_file_holds_the_output_of_this_run_alone(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"the run before")
    await write(File("log", str(path)), b"one ", b"two")
    assert path.read_bytes() == b"one two"


async def test_opening_a_file_again_does_not_empty_it(tmp_path: Path) -> None:
    device = File("log", str(tmp_path / "console.log"))
    device.open()
    await write(device, b"kept")
    assert (tmp_path / "console.log").read_bytes() == b"kept"


@pytest.mark.parametrize("path", ["no/such/directory/file", "."])
def test_a_file_that_cannot_be_written_is_an_error_that_names_it(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"^{path}: "):
        File("log", path).open()


def test_a_fifo_without_reader_is_an_error_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="fifo"):
        File("log", str(tmp_path / "fifo")).open()


async def test_a_full_disk_is_told_once_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    await write(File("log", "/dev/full"), b"x", b"y", b"z")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "/dev/full: output is lost: [Errno 28] No space left on device")
    ]


async def test_output_is_kept_again_once_there_is_room(tmp_path: Path) -> None:
    device = File("log", str(tmp_path / "log"))
    device.open()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def handler(stream: trio.abc.Stream) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4, hard))
        try:
            await stream.send_all(b"four")
            await stream.send_all(b" are lost")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await stream.send_all(b" and more")

    await device.serve(handler)
    device.close()
    assert (tmp_path / "log").read_bytes() == b"four and more"


async def test_null_takes_everything() -> None:
    device = Null("n")
    await write(device, b"x" * 1_000_000)
    assert device.filename == "null"


async def test_a_ring_buffer_keeps_the_newest_bytes() -> None:
    device = RingBuffer("ring", 8)
    await write(device, b"0123456", b"789")
    assert device.read(3) == b"234"
    assert device.read(100) == b"56789"
    assert device.read(1) == b""


@pytest.mark.parametrize("size", [0, -8, 3, 65535])
def test_a_ring_buffers_size_is_a_power_of_two(size: int) -> None:
    with pytest.raises(ConfigError, match=f"{size} is not a power of two"):
        RingBuffer("ring", size)


async def test_a_sink_gives_no_input_and_no_end(tmp_path: Path) -> None:
    ended: list[object] = []

    async def handler(stream: trio.abc.Stream) -> None:
        ended.append(await stream.receive_some())

    devices: list[Chardev] = [Null("n"), RingBuffer("r"), File("f", str(tmp_path / "f"))]
    async with trio.open_nursery() as nursery:
        for device in devices:
            device.open()
            nursery.start_soon(device.serve, handler)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    for device in devices:
        device.close()
    assert ended == []
