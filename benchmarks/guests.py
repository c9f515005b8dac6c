"""What both sides boot: kernels, in the forms that each loads fastest, and their command lines."""

import re
from pathlib import Path

from tests.guests import cache_directory, cloud_kernel, generic_kernel, initramfs

from benchmarks.harness import OURS, Effort, Failed
from stratovirt.boot import bzimage
from stratovirt.boot.decompress import decompress
from stratovirt.errors import ConfigError
from stratovirt.tools.guest import publish
from stratovirt.tools.kernelbuild import build_kernel, built_kernel

CLOUD, GENERIC, BUILT = "cloud kernel", "generic kernel", "kernel built for the machine"
UP = b"GUEST-UP"  # what the test guest prints as its first process starts
MEMORY_MIB = 256


def kernel(name: str, effort: Effort) -> Path:
    """The bzImage of that name; it is downloaded or compiled first if it is not here.

    :raise Failed: it cannot be had, or only by minutes of compiling that a quick run does not have.
    """
    try:
        if name != BUILT:
            return cloud_kernel() if name == CLOUD else generic_kernel()
        found = built_kernel(cache_directory())
        if found is None and effort.quick:
            raise Failed(
                "not compiled yet: a full run does that, or stratovirt-guest kernel --flavour microvm"
            )
        return found or build_kernel(cache_directory())
    except ConfigError as error:
        raise Failed(str(error)) from error


def boot_options(image: Path, form: Path, test: str, *words: str, memory: int = MEMORY_MIB) -> list[str]:
    """Boot ``form`` of the kernel ``image``, its console on stdio, into what the test guest does as ``test``.

    ``tsc_early_khz`` is on everybody's command line: QEMU's microvm sometimes hangs in the calibration that
    it makes unnecessary.
    """
    append = " ".join(("console=ttyS0", f"tsc_early_khz={tsc_khz()}", *words, f"t={test}"))
    options = ["-m", str(memory), "-smp", "1", "-serial", "stdio", "-append", append]
    return [*options, "-kernel", str(form), "-initrd", str(initramfs(image))]


def fastest_form(side: str, image: Path) -> Path:
    """What this side boots fastest: ours decompresses on the host, QEMU leaves that to the guest."""
    return image if side == OURS else vmlinux(image)


def vmlinux(image: Path) -> Path:
    """The ELF file inside a bzImage, extracted once."""
    target = cache_directory() / image.name.replace("vmlinuz", "vmlinux")
    if not target.exists():
        packed = memoryview(image.read_bytes())
        offset, length = bzimage.parse(str(image), packed).payload
        publish(b"".join(decompress(str(image), packed[offset : offset + length])), target)
    return target


def tsc_khz() -> int:
    """This host's clock rate, which is also that of the counter both software CPUs show."""
    found = re.search(r"^cpu MHz\s*: (\d+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return int(found[1]) * 1000 if found else 2_000_000
