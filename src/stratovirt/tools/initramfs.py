"""The root file system of a guest, in memory: busybox, kernel modules and the files under ``rootfs/``.

The law: what is built depends on the arguments alone, byte for byte. Nothing is compressed: a guest on a
software CPU takes 0.1 s longer to inflate 5 MB than to copy it, of a boot of 1.7 s (QEMU's TCG).
"""

import logging
import shutil
import subprocess
from collections.abc import Iterable
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from stratovirt.errors import ConfigError
from stratovirt.tools import elf
from stratovirt.tools.cpio import Archive
from stratovirt.tools.debian import Debian
from stratovirt.tools.kernels import Kernel
from stratovirt.tools.kmod import ModuleTree

log = logging.getLogger(__name__)

# Loaded at boot, in this order after what they need; a kernel that lacks one goes without.
BOOT_MODULES = (
    "button",  # the ACPI power button, which acpid turns into a shutdown ...
    "evdev",  # ... as it reads the button from /dev/input
    "virtio_mmio",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "virtio_balloon",
    "virtio_rng",
    "vmw_vsock_virtio_transport",
    "virtiofs",
)
# Loaded instead when a disk is to take over (root=): what it takes to mount one.
ROOT_MODULES = ("virtio_mmio", "virtio_blk", "ext4", "crc32c_generic")
DIRECTORIES = ("/dev", "/etc", "/mnt", "/proc", "/root", "/run", "/sys", "/tmp", "/var/log")
# Other names of directories, which programs and the kernel's helpers look for.
ALIASES = {"/sbin": "bin", "/usr/bin": "../bin", "/usr/sbin": "../bin", "/var/run": "../run"}


def find_busybox(cache: Path) -> Path:
    """A statically linked busybox: the one on PATH, else Debian's busybox-static package.

    :raise ConfigError: there is neither.
    """
    installed = shutil.which("busybox")
    if installed and _is_static(Path(installed)):
        return Path(installed)
    package = Debian(cache).obtain("busybox-static")
    if package is None:
        raise ConfigError("no static busybox: it is neither on PATH nor known to apt (busybox-static)")
    return package / "bin/busybox"


def build(
    kernel: Kernel,
    busybox: Path,
    *,
    init: Path | None = None,
    modules: Iterable[str] = (),
    add: Iterable[tuple[Path, str]] = (),
) -> bytes:
    """The archive, ready for -initrd.

    :param init: the program to run as process 1, in place of the one that ends in a shell.
    :param modules: names of modules to put in, and load, besides BOOT_MODULES.
    :param add: (file or directory of the host, absolute path in the guest).
    :raise ConfigError: a file cannot be read or a module is missing.
    """
    archive = Archive()
    for path in DIRECTORIES:
        archive.directory(path)
    for path, target in ALIASES.items():
        archive.symlink(path, target)
    archive.character_device("/dev/console", 5, 1)
    _add_resources(archive, "", resources.files("stratovirt.tools") / "rootfs")
    _add_busybox(archive, busybox)
    _add_modules(archive, kernel, modules)
    for source, path in add:
        _add_host_files(archive, path, source)
    if init is not None:
        archive.file("/init", _read(init), executable=True)
    return archive.to_bytes()


def _is_static(program: Path) -> bool:
    try:
        return elf.is_static(_read(program))
    except ValueError:  # a wrapper script
        return False


def _add_resources(archive: Archive, path: str, node: Traversable) -> None:
    if node.is_file():
        data = node.read_bytes()
        archive.file(path, data, executable=data.startswith(b"#!"))
        return
    for child in node.iterdir():
        _add_resources(archive, f"{path}/{child.name}", child)


def _add_busybox(archive: Archive, busybox: Path) -> None:
    archive.file("/bin/busybox", _read(busybox), executable=True)
    for applet in _applets(busybox):
        archive.symlink(f"/bin/{applet}", "busybox")


def _applets(busybox: Path) -> list[str]:
    listing = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=False).stdout
    return [name for name in listing.split() if name != "busybox"]


def _add_modules(archive: Archive, kernel: Kernel, extra: Iterable[str]) -> None:
    if kernel.modules is None:
        log.info("%s: no modules found for it, so the initramfs has none", kernel.image)
        for listing in ("/etc/modules", "/etc/modules-root"):
            archive.file(listing, b"")
        return
    tree = ModuleTree(kernel.modules)
    order = boot_order(tree, extra)
    root_order = tree.load_order(name for name in ROOT_MODULES if name in tree)
    root = f"/lib/modules/{kernel.modules.name}"
    present = list(dict.fromkeys((*order, *root_order)))
    for name in present:
        archive.file(f"{root}/{tree.path(name)}", tree.read(name))
    archive.file(f"{root}/modules.dep", tree.dependency_file(present).encode())
    for listing, names in (("/etc/modules", order), ("/etc/modules-root", root_order)):
        archive.file(listing, "".join(f"{root}/{tree.path(name)}\n" for name in names).encode())


def boot_order(tree: ModuleTree, extra: Iterable[str]) -> list[str]:
    """BOOT_MODULES as far as the kernel has them, ``extra``, and what they need, in the order to load them.

    :raise ConfigError: one of ``extra`` is missing.
    """
    return tree.load_order([*(name for name in BOOT_MODULES if name in tree), *extra])


def _add_host_files(archive: Archive, path: str, source: Path) -> None:
    if not source.is_dir():
        archive.file(path, _read(source), executable=bool(source.stat().st_mode & 0o111))
        return
    archive.directory(path)
    for child in sorted(source.iterdir()):
        _add_host_files(archive, f"{path}/{child.name}", child)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
