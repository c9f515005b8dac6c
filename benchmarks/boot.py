"""Exec to userspace: our software CPU beside QEMU's, same kernel, initramfs and command line.

QEMU takes part twice, with the bzImage as shipped and with the vmlinux out of it, for its two loaders differ
by seconds; the ratio is against the faster. ``tsc_early_khz`` is on everybody's command line: QEMU's microvm
sometimes hangs in the calibration that it makes unnecessary.
"""

import argparse
import math
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.guests import cache_directory, cloud_kernel, generic_kernel, initramfs

from benchmarks.common import Result, Side, host, interleave, write_json
from stratovirt.boot import bzimage
from stratovirt.boot.decompress import decompress
from stratovirt.errors import ConfigError
from stratovirt.tools.guest import publish

KERNELS = {"cloud": cloud_kernel, "generic": generic_kernel}
MARKER = b"GUEST-UP"
RUNS, QUICK_RUNS = 9, 3
MEMORY_MIB = 256
RESULTS = Path("build/benchmarks")


def main(argv: Sequence[str] | None = None) -> int:
    """Print one table per kernel, write its JSON; 0 unless a side has no figure at all."""
    arguments = _arguments(argv)
    if shutil.which("qemu-system-x86_64") is None:
        print(
            "boot: qemu-system-x86_64 is not installed, so there is nothing to compare with", file=sys.stderr
        )
        return 1
    try:
        tables = [compare(flavour, arguments) for flavour in arguments.kernel or KERNELS]
    except ConfigError as error:
        print(f"boot: {error}", file=sys.stderr)
        return 1
    return 0 if all(result.seconds for results in tables for result in results) else 1


def compare(flavour: str, arguments: argparse.Namespace) -> list[Result]:
    """The results of all sides with one kernel, printed and written."""
    kernel = KERNELS[flavour]()
    append = f"console=ttyS0 tsc_early_khz={tsc_khz()} t=up"
    sides = [side for side in boot_sides(kernel, append) if arguments.side in side.name]
    conditions: dict[str, object] = {
        "kernel": kernel.name,
        "append": append,
        "memory_mib": MEMORY_MIB,
    } | host()
    results = interleave(sides, arguments.runs, MARKER, arguments.timeout)
    print(f"\n{kernel.name}, {append!r}: exec to userspace, median of {arguments.runs} (lowest – highest)")
    print("\n".join(result.row for result in results))
    print(verdict(results))
    write_json(RESULTS / f"boot-{flavour}.json", conditions, results)
    return results


def boot_sides(kernel: Path, append: str) -> list[Side]:
    """Ours first, then QEMU's two ways."""
    machine = ["-m", str(MEMORY_MIB), "-smp", "1", "-append", append]
    machine += ["-initrd", str(initramfs(kernel)), "-serial", "stdio"]
    qmp = f"unix:{cache_directory() / 'boot.sock'},server,nowait"
    ours = [sys.executable, "-m", "stratovirt", "-machine", "microvm,accel=tcg", "-qmp", qmp]
    # Everything that QEMU can leave out to start faster, as far as Linux still finds its console.
    qemu = ["qemu-system-x86_64", "-M", "microvm,acpi=on,x-option-roms=off", "-accel", "tcg"]
    qemu += ["-nodefaults", "-no-user-config", "-display", "none", "-qmp", qmp]
    return [
        Side("stratovirt", [*ours, *machine, "-kernel", str(kernel)]),
        Side("qemu, bzImage", [*qemu, *machine, "-kernel", str(kernel)]),
        Side("qemu, vmlinux", [*qemu, *machine, "-kernel", str(vmlinux(kernel))]),
    ]


def verdict(results: Sequence[Result]) -> str:
    """The ratio of our median to that of QEMU's faster way."""
    ours = next((result for result in results if result.name == "stratovirt"), None)
    best = min(
        (result for result in results if result is not ours), key=lambda each: each.median, default=None
    )
    if ours is None or best is None or not math.isfinite(ours.median + best.median):
        return "no ratio: a side has no figure"
    return f"stratovirt / {best.name} = {ours.median / best.median:.2f}"


def vmlinux(kernel: Path) -> Path:
    """The ELF file inside a bzImage, extracted once."""
    target = cache_directory() / kernel.name.replace("vmlinuz", "vmlinux")
    if not target.exists():
        image = memoryview(kernel.read_bytes())
        offset, length = bzimage.parse(str(kernel), image).payload
        publish(b"".join(decompress(str(kernel), image[offset : offset + length])), target)
    return target


def tsc_khz() -> int:
    """This host's clock rate, which is also that of the counter both software CPUs show."""
    found = re.search(r"^cpu MHz\s*: (\d+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return int(found[1]) * 1000 if found else 2_000_000


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.boot", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="runs of each side (default: %(default)s)")
    parser.add_argument("--quick", dest="runs", action="store_const", const=QUICK_RUNS, help="few runs")
    parser.add_argument("--kernel", action="append", choices=KERNELS, help="only this one (default: all)")
    parser.add_argument("--side", default="", help="only sides with this in their name: qemu")
    parser.add_argument("--timeout", type=float, default=60, help="seconds until a run counts as hung")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
