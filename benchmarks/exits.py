"""What leaving the guest costs, and how long a device and its guest take to hear of each other.

The guest has no operating system (``tests/guests/bare/exits.c``) and reads the time-stamp counter itself: of
port I/O with the serial port (which ours serves in C) and the clock (in Python), of a device's MMIO register,
and of requests to virtio-rng, from the kick until the guest sees them used: first polling, then asleep until
the interrupt. At last the host types bytes, and each comes back: to the device, to the guest by an interrupt,
and out again. On each accelerator that the host has.
"""

import os
import re
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from subprocess import Popen

from tests.guests import bare_kernel

from benchmarks.guests import tsc_khz
from benchmarks.harness import (
    OURS,
    QEMU,
    SIDES,
    Effort,
    Failed,
    Figure,
    Runs,
    interleave,
    join,
    percentile,
    read_until,
    running,
    vmm,
)
from stratovirt.errors import ConfigError

ACCELERATORS = ("tcg", "kvm") if os.access("/dev/kvm", os.R_OK | os.W_OK) else ("tcg",)
MEASURED = {
    "serial": "read of a serial port register",
    "rtc": "read of a clock register",
    "mmio": "read of an MMIO register",
    "polling": "kick to used, guest polls",
    "sleeping": "kick to interrupt, guest sleeps",
}
"""What the guest's lines begin with, and are."""
TYPED = "typed byte and back"
FIGURES = [
    Figure(f"{name}, {accelerator}", "us")
    for accelerator in ACCELERATORS
    for name in (*MEASURED.values(), TYPED)
]
TIMEOUT = 60
BYTES = 100
TYPING_SECONDS = 0.005  # between two of them: none waits for what came of the one before
LINE = re.compile(r"^(\w+) (\d+) (\d+)$", re.MULTILINE)
RNG = ("-object", "rng-random,id=entropy,filename=/dev/urandom", "-device", "virtio-rng-device,rng=entropy")
MACHINE = ("-m", "128", *RNG, "-serial", "stdio")
OPTIONS = {OURS: MACHINE, QEMU: (*MACHINE, "-M", "ioapic2=off", "-global", "virtio-mmio.force-legacy=false")}


def measure(effort: Effort) -> Mapping[str, Runs]:
    """Each accelerator in turn; a run takes three seconds at most."""
    try:
        kernel = bare_kernel("exits")
    except ConfigError as error:
        raise Failed(str(error)) from error
    return join(
        *(
            interleave({side: partial(costs, side, accelerator, kernel) for side in SIDES}, effort.runs)
            for accelerator in ACCELERATORS
        )
    )


def costs(side: str, accelerator: str, kernel: Path) -> Mapping[str, float]:
    """The figures of one run."""
    per_us = tsc_khz() / 1000
    command = vmm(side, *OPTIONS[side], "-kernel", str(kernel), accel=accelerator)
    with running(command) as process:
        lines = LINE.findall(read_until(process, b"READY\n", TIMEOUT))
        figures = {MEASURED[name]: int(cycles) / int(count) / per_us for name, count, cycles in lines}
        figures[TYPED] = percentile(list(_typed(process)), 50) * 1_000_000
    return {f"{name}, {accelerator}": value for name, value in figures.items()}


def _typed(process: Popen[bytes]) -> Iterator[float]:
    """Seconds for each byte to come back."""
    assert process.stdin is not None
    for _ in range(BYTES):
        start = time.monotonic()
        process.stdin.write(b"x")
        process.stdin.flush()
        read_until(process, b"x", TIMEOUT)
        yield time.monotonic() - start
        time.sleep(TYPING_SECONDS)
