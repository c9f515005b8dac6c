"""A disk's throughput: one raw image, around the guest's cache, data verified.

The guest (tests/guests/block.c) opens the disk with O_DIRECT and makes requests for a fixed time: 1 MiB each,
in order, and 4 KiB each, at random, one at a time and 32 at a time. It checks a stamp in each sector that it
reads; what it has written is checked here. Both sides go through the host's page cache, which has the image.
"""

import re
import struct
import tempfile
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

from benchmarks.guests import CLOUD, boot_options, fastest_form, kernel
from benchmarks.harness import SIDES, Effort, Failed, Figure, Run, Runs, console, interleave, vmm

FIGURES = (
    Figure("sequential read", "MB/s", target=1.0, higher=True),
    Figure("sequential write", "MB/s", target=1.0, higher=True),
    Figure("4 KiB random read", "kIO/s", target=1.0, higher=True),
    Figure("4 KiB random read, 32 deep", "kIO/s", target=1.0, higher=True),
)
MILLISECONDS, QUICK_MILLISECONDS = 2000, 300  # of each load
SIZE, SECTOR = 256 << 20, 512
HALF = SIZE // 2  # the first is read, the second written
STEP = 0x9E3779B97F4A7C15  # of block.c
KILO, MEGA = 1_000, 1_000_000
TIMEOUT = 90
DONE = b" END"

_STAMP = struct.Struct("<Q")


def measure(effort: Effort) -> Mapping[str, Runs]:
    """Both sides on one image, in turns."""
    with tempfile.TemporaryDirectory(prefix="stratovirt-bench-") as directory:
        image = Path(directory, "disk.img")
        with image.open("wb") as file:
            file.write(stamped(0))
        sides: dict[str, Run] = {side: partial(_run, side, image, effort) for side in SIDES}
        return interleave(sides, effort.runs)


@cache
def stamped(offset: int) -> bytes:
    """What belongs into the half at ``offset``: in each sector its stamp, and zeroes behind it."""
    first = offset // SECTOR
    numbers = range(first, first + HALF // SECTOR)
    return b"".join(_STAMP.pack(number * STEP & (1 << 64) - 1).ljust(SECTOR, b"\0") for number in numbers)


def _run(side: str, image: Path, effort: Effort) -> Mapping[str, float]:
    with image.open("r+b") as file:  # not a hole: its pages are to be there
        file.seek(HALF)
        file.write(bytes(HALF))
    boot = kernel(CLOUD, effort)
    milliseconds = QUICK_MILLISECONDS if effort.quick else MILLISECONDS
    options = boot_options(boot, fastest_form(side, boot), "block", "quiet", f"ms={milliseconds}")
    drive = ("-drive", f"id=d0,file={image},format=raw,if=none", "-device", "virtio-blk-device,drive=d0")
    said = console(vmm(side, *options, *drive), DONE, TIMEOUT)
    figures = {
        name: int(value) for name, value in re.findall(r"(\w+)=(\d+) ", said.rpartition("BLOCK-OK")[2])
    }
    with image.open("rb") as file:
        file.seek(HALF)
        if file.read(figures["written"]) != stamped(HALF)[: figures["written"]]:
            raise Failed("the image has other data than the guest wrote")
    return {
        "sequential read": figures["read"] / MEGA,
        "sequential write": figures["write"] / MEGA,
        "4 KiB random read": figures["random"] / KILO,
        "4 KiB random read, 32 deep": figures["deep"] / KILO,
    }
