"""Frames pass a stream whole and in order however it is cut, and leave with the checksum that they lack."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.backends.net.checksum import missing, ones_complement_sum
from stratovirt.backends.net.stream import MAX_FRAME, NO_HEADER, StreamPort

NEEDS_CSUM = 1


class Ends:
    """A port, and the socket at its other end."""

    def __init__(self) -> None:
        near, self.far = socket.socketpair()
        self.far.settimeout(10)
        self.port = StreamPort(near)

    def close(self) -> None:
        self.port.close()
        self.far.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    both = Ends()
    yield both
    both.close()


def framed(frame: bytes) -> bytes:
    return struct.pack(">I", len(frame)) + frame


def received(port: StreamPort, *rooms: int) -> bytes:
    """The next frame behind its header, stored in segments of these lengths."""
    segments = [memoryview(bytearray(room)) for room in rooms or (70000,)]
    length = port.receive(segments)
    return b"".join(segments)[:length]


def carried(stream: bytes) -> Iterator[bytes]:
    """The frames in a stream that has ended."""
    while stream:
        (length,) = struct.unpack_from(">I", stream)
        yield stream[4 : 4 + length]
        stream = stream[4 + length :]


def test_frames_arrive_whole_however_the_stream_is_cut(ends: Ends) -> None:
    frames = [b"first", b"x" * 3000, b"", b"last"]
    got = []
    for byte in b"".join(map(framed, frames)):
        ends.far.send(bytes([byte]))
        if frame := received(ends.port):
            got.append(frame)
    assert got == [NO_HEADER + frame for frame in frames]


def test_many_frames_at_once_arrive_one_by_one(ends: Ends) -> None:
    frames = [bytes([number]) * 1500 for number in range(100)]
    ends.far.sendall(b"".join(map(framed, frames)))
    assert [received(ends.port)[12:] for _ in frames] == frames
    assert received(ends.port) == b""


def test_a_frame_is_stored_across_segments_and_cut_where_they_end(ends: Ends) -> None:
    ends.far.sendall(framed(b"abcdefgh") * 2)
    assert received(ends.port, 5, 10, 5) == NO_HEADER + b"abcdefgh"
    assert received(ends.port, 14) == NO_HEADER + b"ab"


def test_a_stream_that_ends_or_breaks_its_rules_is_lost(ends: Ends) -> None:
    ends.far.sendall(struct.pack(">I", MAX_FRAME + 1))
    with pytest.raises(OSError, match=f"a frame of {MAX_FRAME + 1} bytes has come"):
        received(ends.port)


def test_the_end_of_a_stream_is_told(ends: Ends) -> None:
    ends.far.close()
    with pytest.raises(OSError, match="its other end is closed"):
        received(ends.port)
    with pytest.raises(BrokenPipeError):
        ends.port.send([memoryview(NO_HEADER + bytes(60))])


def test_frames_leave_whole_and_in_order_while_there_is_little_room(ends: Ends) -> None:
    frames = [bytes([number]) * (60000 + number) for number in range(40)]
    stream = b""
    for frame in frames:
        while not ends.port.send([memoryview(NO_HEADER), memoryview(frame)]):
            assert not select.select([ends.port.room_fd], [], [], 0)[0]
            while not select.select([ends.port.room_fd], [], [], 0)[0]:
                stream += ends.far.recv(5000)
    ends.port.close()
    stream += b"".join(iter(lambda: ends.far.recv(70000), b""))
    assert list(carried(stream)) == frames


def test_a_frame_too_long_for_the_other_end_is_refused(ends: Ends) -> None:
    with pytest.raises(OSError, match="a frame of 65536 bytes"):
        ends.port.send([memoryview(NO_HEADER + bytes(MAX_FRAME + 1))])


# -- checksums ---------------------------------------------------------------------------------------


def word_sum(data: bytes) -> int:
    """RFC 1071, word by word."""
    total = sum(struct.unpack(f">{len(data + bytes(len(data) % 2)) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(st.binary(max_size=2000))
def test_the_sum_is_that_of_the_words(data: bytes) -> None:
    assert ones_complement_sum(memoryview(data)) % 0xFFFF == word_sum(data) % 0xFFFF


def test_a_checksum_that_the_guest_left_out_is_filled_in(ends: Ends) -> None:
    source, target = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
    payload = b"an odd number of bytes!"
    tcp = struct.pack(">HHIIBBHHH", 1234, 80, 1, 2, 0x50, 0x18, 1000, 0, 0)
    pseudo = source + target + struct.pack(">BBH", 0, 6, len(tcp + payload))
    partial = tcp[:16] + struct.pack(">H", word_sum(pseudo)) + tcp[18:]
    before = bytes(14) + bytes(20)  # Ethernet, IP
    header = struct.pack("<BBHHHHH", NEEDS_CSUM, 1, 54, 1448, len(before), 16, 0)
    assert ends.port.send([memoryview(header + before), memoryview(partial), memoryview(payload)])
    [frame] = carried(ends.far.recv(1000))
    segment = frame[len(before) :]
    assert segment[:16] == tcp[:16]
    assert segment[18:] == tcp[18:] + payload
    assert word_sum(pseudo + segment) == 0xFFFF  # as who receives it checks


@given(st.binary(min_size=12, max_size=12), st.binary(max_size=100))
def test_no_header_of_a_hostile_guest_reaches_outside_its_frame(header: bytes, frame: bytes) -> None:
    try:
        patch = missing(header, memoryview(frame))
    except OSError:
        return
    assert patch is None or 0 <= patch.at <= len(frame) - 2
