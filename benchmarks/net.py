"""A network card's throughput: TCP over a tap in a network namespace, both ways, data verified.

The guest (tests/guests/tcp.c) receives, then sends, for a fixed time each; its server is a thread here. Both
ends check a stamp in every 512 bytes. QEMU moves the frames itself, as we do: without vhost. Needs root.
"""

import os
import re
import socket
import struct
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache, partial

from tests.network import GUEST, HOST, Namespace, namespace

from benchmarks.guests import CLOUD, boot_options, fastest_form, kernel
from benchmarks.harness import OURS, SIDES, Effort, Failed, Figure, Run, Runs, console, interleave, vmm

FIGURES = (
    Figure("TCP to the guest", "MB/s", target=1.0, higher=True),
    Figure("TCP from the guest", "MB/s", target=1.0, higher=True),
)
MILLISECONDS, QUICK_MILLISECONDS = 2000, 500  # each way
PERIOD, SECTOR, STEP = 1 << 20, 512, 0x9E3779B97F4A7C15  # of tcp.c
MEGA = 1_000_000
TAP = "tap0"
TIMEOUT = 90
DONE = b" END"

_STAMP = struct.Struct("<Q")


def measure(effort: Effort) -> Mapping[str, Runs]:
    """Both sides on one tap, in turns."""
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        raise Failed("a namespace with a tap needs root and /dev/net/tun")
    with namespace() as net:
        net.add_tap(TAP)
        sides: dict[str, Run] = {side: partial(_run, side, net, effort) for side in SIDES}
        return interleave(sides, effort.runs)


def _run(side: str, net: Namespace, effort: Effort) -> Mapping[str, float]:
    boot = kernel(CLOUD, effort)
    milliseconds = QUICK_MILLISECONDS if effort.quick else MILLISECONDS
    with _served(net) as port:
        words = (f"ms={milliseconds}", f"host={HOST}", f"guest={GUEST}", f"port={port}")
        options = boot_options(boot, fastest_form(side, boot), "tcp", "quiet", *words)
        scripts = "" if side == OURS else ",script=no,downscript=no"
        card = ("-netdev", f"tap,id=n0,ifname={TAP}{scripts}", "-device", "virtio-net-device,netdev=n0")
        said = console(net.command(*vmm(side, *options, *card)), DONE, TIMEOUT)
    figures = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+) ", said.rpartition("TCP-OK")[2])}
    return {
        "TCP to the guest": figures["received"] / MEGA,
        "TCP from the guest": figures["sent"] / MEGA,
    }


@contextmanager
def _served(net: Namespace) -> Iterator[int]:
    """A server for one guest within the namespace, to its end; its port.

    :raise Failed: what came from the guest is not what it sent.
    """
    with net.call(partial(socket.create_server, (HOST, 0))) as listener, ThreadPoolExecutor(1) as pool:
        served = pool.submit(_serve, listener)
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # who waits for a guest that never came waits no longer
        if not served.result():
            raise Failed("other data has come than the guest sent")


def _serve(listener: socket.socket) -> bool:
    """Send to the guest's first connection and receive from its second; has all come as it should be?"""
    with listener.accept()[0] as connection, suppress(ConnectionError):  # the guest closes it
        while True:
            connection.sendall(_data())
    with listener.accept()[0] as connection:
        return _received(connection)


def _received(connection: socket.socket) -> bool:
    """Receive to the end, and say how much."""
    buffer = memoryview(bytearray(PERIOD))
    done, right = 0, True
    while count := connection.recv_into(buffer[done % PERIOD :]):
        at = done % PERIOD
        right &= buffer[at : at + count] == _data()[at : at + count]
        done += count
    connection.sendall(_STAMP.pack(done))
    return right


@cache
def _data() -> memoryview:
    """What both send again and again: sectors, each with its stamp and zeroes behind it."""
    sectors = range(PERIOD // SECTOR)
    stamps = (_STAMP.pack(number * STEP & (1 << 64) - 1) for number in sectors)
    return memoryview(b"".join(stamp.ljust(SECTOR, b"\0") for stamp in stamps))
