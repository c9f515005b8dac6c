"""A tap is opened as its owner made it, refused in words that name it, and left as it was found."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from stratovirt.backends.net.tap import Tap, TapPort
from stratovirt.errors import ConfigError
from tests.network import Namespace, namespace

WITHIN = 10
ETHERTYPE = 0x88B5  # for experiments (IEEE 802)
ADDRESSES = b"\xff" * 6 + b"\x52\x54\0\0\0\1"
FRAME = bytes(12) + ADDRESSES + ETHERTYPE.to_bytes(2, "big") + b"hello".ljust(46, b"\0")
TAP, TUN, NO_PI, VNET_HDR = 2, 1, 0x1000, 0x4000
TUNSETIFF = 0x400454CA


@pytest.fixture
def net() -> Iterator[Namespace]:
    with namespace() as space:
        yield space


def opened(flags: int, name: str = "t0") -> Callable[[], int]:
    """Opens a queue as another program would, that passes it to us."""

    def open_it() -> int:
        fd = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        return fd

    return open_it


def send_datagram(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        udp.sendto(b"hello", ("10.99.0.255", port))


def count_frames(port: TapPort) -> int:
    room = [memoryview(bytearray(70000))]
    return sum(1 for _ in iter(lambda: port.receive(room), 0))


def packet_socket() -> socket.socket:
    """The kernel's end of t0's cable."""
    kernel = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
    kernel.bind(("t0", ETHERTYPE))
    kernel.settimeout(WITHIN)
    return kernel


def received(tap: Tap) -> bytes:
    """The next frame of our own protocol; the kernel sends others of its own (IPv6's neighbours)."""
    room = bytearray(70000)
    while True:
        assert select.select([port.fd for port in tap.ports], [], [], WITHIN)[0]
        for port in tap.ports:
            length = port.receive([memoryview(room)])
            if int.from_bytes(room[24:26], "big") == ETHERTYPE:
                return bytes(room[:length])


def test_frames_pass_both_ways(net: Namespace) -> None:
    net.add_tap("t0")
    with closing(net.call(lambda: Tap.named("t0"))) as tap, net.call(packet_socket) as kernel:
        assert tap.ports[0].send([memoryview(FRAME[:20]), memoryview(FRAME[20:])])
        assert kernel.recv(2000) == FRAME[12:]
        kernel.send(FRAME[12:])
        assert received(tap)[12:] == FRAME[12:]
        assert tap.ports[0].receive([memoryview(bytearray(2000))]) == 0


def test_a_tap_that_was_not_there_goes_with_us_and_a_persistent_one_stays(net: Namespace) -> None:
    net.add_tap("kept", None)
    with closing(net.call(lambda: Tap.named("kept"))), closing(net.call(lambda: Tap.named("made"))):
        assert {"kept", "made"} <= set(net.run("ls", "/sys/class/net").split())
    names = net.run("ls", "/sys/class/net").split()
    assert "kept" in names
    assert "made" not in names


def test_the_mtu_of_the_interface_is_known(net: Namespace) -> None:
    net.add_tap("t0", None)
    net.ip("link set t0 mtu 9000")
    with closing(net.call(lambda: Tap.named("t0"))) as tap:
        assert tap.mtu == 9000


def test_several_queues_have_a_port_each_and_those_that_are_not_used_get_nothing(net: Namespace) -> None:
    net.add_tap("t0", options="multi_queue")
    with closing(net.call(lambda: Tap.named("t0", 3))) as tap:
        tap.set_queues(2)
        for number in range(64):  # flows, which the kernel spreads over the queues
            net.call(lambda number=number: send_datagram(5000 + number))
        used = [count_frames(port) for port in tap.ports]
    assert used[0] > 0
    assert used[1] > 0
    assert used[2] == 0


@pytest.mark.parametrize(
    ("name", "queues", "problem"),
    [
        ("lo", 1, "lo: is no tap"),
        ("busy", 1, "busy: in use by another program"),
        ("many", 1, "many: is no tap, or was made with multi_queue for queues=1"),
        ("single", 2, "single: is no tap, or was made with multi_queue for queues=1, or without for more"),
    ],
)
def test_a_name_that_cannot_be_had_is_refused_with_the_reason(
    net: Namespace, name: str, queues: int, problem: str
) -> None:
    net.add_tap("busy", None)
    net.add_tap("single", None)
    net.add_tap("many", None, "multi_queue")

    def refusal() -> str:
        with closing(Tap.named("busy")), pytest.raises(ConfigError) as refused:
            Tap.named(name, queues)
        return str(refused.value)

    assert net.call(refusal).startswith(problem)


def test_descriptors_of_another_program_are_taken(net: Namespace) -> None:
    fd = net.call(opened(TAP | NO_PI | VNET_HDR))
    net.ip("link set t0 up")
    with closing(Tap([fd])) as tap:
        assert tap.ifname == "t0"
        assert not os.get_blocking(fd)
        assert tap.ports[0].send([memoryview(FRAME)])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (TUN | NO_PI | VNET_HDR, "is a tun: only a tap carries Ethernet frames"),
        (TAP | NO_PI, "was opened without IFF_VNET_HDR"),
    ],
)
def test_descriptors_that_cannot_carry_our_frames_are_refused_and_closed(
    net: Namespace, flags: int, problem: str
) -> None:
    fd = net.call(opened(flags))
    with pytest.raises(ConfigError, match=f"fd {fd}: {problem}"):
        Tap([fd])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_descriptors_of_two_taps_are_refused(net: Namespace) -> None:
    fds = [net.call(opened(TAP | NO_PI | VNET_HDR, name)) for name in ("t0", "t1")]
    with pytest.raises(ConfigError, match="they belong to different taps: t0, t1"):
        Tap(fds)


def test_a_descriptor_that_is_no_tap_or_not_open_is_refused() -> None:
    read, write = os.pipe()
    with pytest.raises(ConfigError, match=f"fd {read}: is no tap"):
        Tap([read])
    with pytest.raises(ConfigError, match=f"fds {write}:{write}: the same one twice"):
        Tap([write, write])
    with pytest.raises(ConfigError, match=f"fd {write}: is not open"):
        Tap([write])
