"""How fast a guest prints: on the serial port, a byte per exit, and on hvc0, a virtio-console, in buffers.

A stock Debian kernel, idle at its shell, sends a file to each; the clock runs from the first byte that the
host reads to the last.
"""

import socket
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness import SIDES, Effort, Failed, Figure, Runs, interleave, read_until
from benchmarks.idle import Idle, idle
from benchmarks.load import CHUNK, first_connection

SERIAL = Figure("serial port", "KB/s", higher=True)
HVC = Figure("virtio-console", "MB/s", higher=True)
FIGURES = (SERIAL, HVC)
TIMEOUT = 30
LOAD_MODULES = 'while read -r m; do insmod "$m"; done </etc/modules'


class Load(NamedTuple):
    """Bytes that each console prints."""

    serial: int = 200_000
    hvc: int = 2_000_000


QUICK = Load(50_000, 500_000)


def measure(effort: Effort) -> Mapping[str, Runs]:
    """A machine per run, and one run where it has to be quick."""
    load, runs = (QUICK, 1) if effort.quick else (Load(), effort.runs)
    return interleave({side: partial(_run, side, load) for side in SIDES}, runs)


def _run(side: str, load: Load) -> Mapping[str, float]:
    with tempfile.TemporaryDirectory(prefix="stratovirt-bench-") as directory:
        path = Path(directory, "hvc")
        chardev = ("-chardev", f"socket,id=hvc,path={path},server,nowait")
        device = ("-device", "virtio-serial-device", "-device", "virtconsole,chardev=hvc,id=hvc0")
        with idle(side, 0, *chardev, *device) as machine, first_connection(path) as hvc:
            _type(
                machine, f"{LOAD_MODULES}; tr '\\0' x </dev/zero | head -c {load.hvc} >/tmp/x; echo RE''ADY"
            )
            read_until(machine.process, b"READY", TIMEOUT)
            serial = _serial(machine, load.serial)
            return {SERIAL.name: serial / 1e3, HVC.name: _hvc(machine, hvc, load.hvc) / 1e6}


def _type(machine: Idle, command: str) -> None:
    """Have the guest's shell begin a command."""
    assert machine.process.stdin is not None
    machine.process.stdin.write(command.encode() + b"\n")
    machine.process.stdin.flush()


def _serial(machine: Idle, size: int) -> float:
    """Bytes per second."""
    _type(machine, f"head -c {size} /tmp/x >/tmp/y; echo ST''ART; cat /tmp/y; echo EN''D")
    read_until(machine.process, b"START", TIMEOUT)
    start = time.monotonic()
    read_until(machine.process, b"END", TIMEOUT)
    return size / (time.monotonic() - start)


def _hvc(machine: Idle, hvc: socket.socket, size: int) -> float:
    """Bytes per second."""
    hvc.settimeout(TIMEOUT)
    _type(machine, "cat /tmp/x >/dev/hvc0")
    received, start = 0, 0.0
    try:
        while received < size:
            packet = hvc.recv(CHUNK)
            if not packet:
                raise Failed(f"the machine ended after {received} bytes of {size}")
            received += len(packet)
            start = start or time.monotonic()
    except TimeoutError:
        raise Failed(f"hung for {TIMEOUT} s after {received} bytes of {size}") from None
    return size / (time.monotonic() - start)
