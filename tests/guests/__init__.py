"""The guests that tests and `make soak` boot: stock Debian kernels, and one initramfs with tests by name.

What the guest does is chosen by ``t=`` on the kernel command line and written in ``init``; what it prints is
read from the serial port. Kernels and programs are kept in ``.guest/`` (or STRATOVIRT_GUEST_DIR): fetched
and compiled once. A host that can do neither makes these functions raise ConfigError, whose text is fit for
``pytest.skip``.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from stratovirt.errors import ConfigError
from stratovirt.tools.guest import publish
from stratovirt.tools.initramfs import build, find_busybox
from stratovirt.tools.kernels import Kernel, debian_kernel

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
PROGRAMS = ("smp", "memory", "block", "range", "tcp", "vsock")
TEST_MODULES = ("tun",)  # loaded and removed while others run
COMPILE = ("-O2", "-s", "-Wall", "-Wextra", "-static", "-pthread")
COMPILE_BARE = (
    *("-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-nostdlib", "-static"),
    *(
        "-mno-red-zone",
        "-mgeneral-regs-only",
        "-fno-stack-protector",
        "-fno-pie",
        "-no-pie",
        "-fcf-protection=none",
    ),
    *("-Wl,--build-id=none", "-Wl,--no-warn-rwx-segments", "-T", str(HERE / "bare" / "link.ld")),
)


def cache_directory() -> Path:
    return Path(os.environ.get("STRATOVIRT_GUEST_DIR") or PROJECT / ".guest")


@cache
def cloud_kernel() -> Path:
    """Debian's 6.1 cloud kernel, a bzImage as shipped."""
    return debian_kernel("cloud", cache_directory()).image


@cache
def generic_kernel() -> Path:
    """Debian's 6.1 generic amd64 kernel, a bzImage as shipped."""
    return debian_kernel("generic", cache_directory()).image


@cache
def initramfs(kernel: Path) -> Path:
    """The test guest's initramfs with modules of ``kernel``; ``t=`` on its command line picks the test."""
    directory = cache_directory()
    image = build(
        Kernel.at(kernel),
        find_busybox(directory),
        init=HERE / "init",
        modules=TEST_MODULES,
        add=[(program(name), f"/bin/{name}") for name in PROGRAMS],
    )
    return publish(image, directory / f"tests-{kernel.name}.cpio")


@cache
def shell_initramfs(kernel: Path) -> Path:
    """An initramfs as ``stratovirt-guest`` makes it, which ends in a shell, with the programs in /bin."""
    directory = cache_directory()
    programs = [(program(name), f"/bin/{name}") for name in PROGRAMS]
    image = build(Kernel.at(kernel), find_busybox(directory), add=programs)
    return publish(image, directory / f"shell-{kernel.name}.cpio")


@cache
def program(name: str) -> Path:
    """The static program compiled from ``NAME.c``, by the hash of its source."""
    return _compiled(HERE / f"{name}.c", COMPILE)


@cache
def bare_kernel(name: str, seed: int = 1) -> Path:
    """The guest without an operating system compiled from ``bare/NAME.c``: an ELF kernel."""
    return _compiled(HERE / "bare" / f"{name}.c", (*COMPILE_BARE, f"-DSEED={seed}"))


def _compiled(source: Path, options: Sequence[str]) -> Path:
    headers = sorted((*source.parent.glob("*.h"), *source.parent.glob("*.ld")))
    parts = [" ".join(options).encode(), *(file.read_bytes() for file in (source, *headers))]
    digest = hashlib.sha256(b"".join(parts)).hexdigest()[:16]
    target = cache_directory() / f"{source.stem}-{digest}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        _compile(source, target, options)
    return target


def _compile(source: Path, target: Path, options: Sequence[str]) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise ConfigError(f"no C compiler for the test guest's {source.name}")
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    command = [compiler, *options, "-o", str(scratch), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ConfigError(f"{source.name} does not compile: {done.stderr.strip().splitlines()[-1]}")
    scratch.replace(target)
