"""Which kernel to boot, and where its modules are.

The law: the kernel that we test with comes first. A kernel that is named is taken as it is; otherwise it is
Debian's 6.1, from the cache, from /boot if this host runs it, or from the package; whatever else lies in
/boot is the last resort.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from stratovirt.errors import ConfigError
from stratovirt.tools.debian import Debian, version_key

log = logging.getLogger(__name__)

FLAVOURS = {"cloud": "cloud-amd64", "generic": "amd64"}
BOOT = Path("/boot")
HOST_MODULES = Path("/lib/modules")

_SETUP_MAGIC_OFFSET, _SETUP_MAGIC = 0x202, b"HdrS"
_VERSION_OFFSET, _VERSION_BASE = 0x20E, 0x200  # of the 16-bit pointer, and what it counts from
_SETUP_SIZE = 0x10000  # setup code and its strings: at most 64 sectors, and the pointer has 16 bits


@dataclass(frozen=True)
class Kernel:
    """A kernel image and, where there are any, its modules (``…/lib/modules/RELEASE``)."""

    image: Path
    modules: Path | None

    @classmethod
    def at(cls, image: Path) -> "Kernel":
        """The kernel in file ``image``; modules are looked for beside it, then on this host.

        :raise ConfigError: it cannot be read.
        """
        release = _release(image)
        beside = image.absolute().parent.parent / "lib/modules"
        candidates = [root / release for root in (beside, HOST_MODULES) if release]
        return cls(image, next((each for each in candidates if each.is_dir()), None))


def debian_kernel(flavour: str, cache: Path) -> Kernel:
    """Debian's newest 6.1 kernel of a flavour, ``cloud`` or ``generic``; downloaded if need be.

    :raise ConfigError: it is not here and cannot be downloaded.
    """
    suffix = FLAVOURS[flavour]
    here = _newest(cache, f"linux-image-*/boot/vmlinuz-*[0-9]-{suffix}")
    image = here or _newest(BOOT, f"vmlinuz-6.1.*[0-9]-{suffix}") or _unpacked(Debian(cache), suffix)
    return Kernel.at(image)


def any_kernel(cache: Path) -> Kernel:
    """Debian's cloud kernel or, where that cannot be had, the newest that this host has in /boot.

    :raise ConfigError: neither is there.
    """
    try:
        return debian_kernel("cloud", cache)
    except ConfigError as error:
        image = _newest(BOOT, "vmlinuz-*")
        if image is None:
            raise
        log.info("%s; taking this host's own %s", error, image)
        return Kernel.at(image)


def _unpacked(debian: Debian, suffix: str) -> Path:
    tested, any_version = rf"linux-image-6\.1\.0-[0-9]+-{suffix}", rf"linux-image-[0-9][0-9a-z.+]*-{suffix}"
    package = debian.obtain(tested, any_version)
    image = _newest(package, "boot/vmlinuz-*") if package else None
    if image is None:
        raise ConfigError(f"apt has no kernel for {suffix}: name one (KERNEL=…)")
    return image


def _newest(directory: Path, pattern: str) -> Path | None:
    readable = (path for path in directory.glob(pattern) if os.access(path, os.R_OK))
    return max(readable, key=lambda path: version_key(path.name), default=None)


def _release(image: Path) -> str | None:
    """The release of a bzImage (``uname -r``); none for a file of another kind.

    Source: Linux, Documentation/arch/x86/boot.rst, kernel_version.
    """
    try:
        with image.open("rb") as file:
            header = file.read(_SETUP_SIZE)
    except OSError as error:
        raise ConfigError(f"{image}: {error.strerror}") from error
    if header[_SETUP_MAGIC_OFFSET:][: len(_SETUP_MAGIC)] != _SETUP_MAGIC:
        return None
    start = _VERSION_BASE + int.from_bytes(header[_VERSION_OFFSET : _VERSION_OFFSET + 2], "little")
    version = header[start:].partition(b"\0")[0].decode("ascii", "replace")
    return version.partition(" ")[0] or None
