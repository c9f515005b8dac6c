"""A root disk: an ext4 image with a small Debian on it, made by an ordinary user.

The packages are unpacked and none of their scripts is run, so there is no dpkg database to speak of and no
init system: busybox is process 1 and stands in for every program that no package has. What makes a machine
of the files (``rootdisk/``, accounts, what to start) is laid over them.

The law: the image appears under its name in one rename, and everything on it is root's, whoever built it.
"""

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from stratovirt.errors import ConfigError
from stratovirt.tools.debian import Debian
from stratovirt.tools.initramfs import boot_order
from stratovirt.tools.kernels import Kernel
from stratovirt.tools.kmod import ModuleTree

log = logging.getLogger(__name__)

# A shell to be at home in, and what sets up disks and networks. usr-is-merged keeps perl out.
PACKAGES = (
    *("base-files", "bash", "busybox-static", "coreutils", "e2fsprogs", "iproute2", "mount", "procps"),
    *("util-linux", "usr-is-merged"),
)
DIRECTORIES = ("dev", "mnt", "proc", "root", "run", "sys", "tmp")
SIZE = 256 << 20
MKE2FS_OPTIONS = ("-q", "-t", "ext4", "-b", "4096", "-L", "root", "-m", "0", "-E", "root_owner=0:0")
BINARIES = ("bin", "sbin", "usr/bin", "usr/sbin")
SYSTEM_PATH = "/usr/sbin:/sbin"  # where Debian has mke2fs, and users' PATH does not lead


def build(
    cache: Path,
    kernel: Kernel,
    output: Path,
    *,
    size: int = SIZE,
    packages: Iterable[str] = (),
    modules: Iterable[str] = (),
    add: Iterable[tuple[Path, str]] = (),
) -> Path:
    """Write the image to ``output``; it is sparse.

    :param size: of the image, in bytes.
    :param packages: Debian packages to put on it besides PACKAGES, with what they depend on.
    :param modules: names of modules to put on it, and load, besides those of the initramfs.
    :param add: (file or directory of the host, absolute path in the guest).
    :raise ConfigError: a package, a module or a file cannot be had, or it does not all fit.
    """
    mke2fs, debugfs = _program("mke2fs"), _program("debugfs")
    system = Debian(cache).unpack_with_needed([*PACKAGES, *packages])
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".disk-") as scratch:
        tree, image = Path(scratch, "tree"), Path(scratch, "image")
        shutil.copytree(system, tree, symlinks=True)
        _furnish(tree)
        _add_modules(tree, kernel, modules)
        for source, path in add:
            _add_host_files(tree / path.lstrip("/"), source)
        log.info("writing %s", output)
        _run(mke2fs, *MKE2FS_OPTIONS, "-d", tree, image, f"{size >> 10}k")
        _give_to_root(debugfs, tree, image)
        return image.replace(output)


def _program(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PATH}")
    if path is None:
        raise ConfigError(f"{name} is not installed: apt-get install e2fsprogs")
    return path


def _furnish(tree: Path) -> None:
    for path in DIRECTORIES:
        (tree / path).mkdir(exist_ok=True)
    shared = resources.files("stratovirt.tools")
    _copy_resources(shared / "rootfs/etc/acpi", tree / "etc/acpi")
    _copy_resources(shared / "rootdisk", tree)
    _fill_in_from_busybox(tree)


def _copy_resources(node: Traversable, path: Path) -> None:
    if node.is_file():
        data = node.read_bytes()
        path.write_bytes(data)
        path.chmod(0o755 if data.startswith(b"#!") else 0o644)
        return
    path.mkdir(exist_ok=True)
    for child in node.iterdir():
        _copy_resources(child, path / child.name)


def _fill_in_from_busybox(tree: Path) -> None:
    """Links to busybox for every program that no package has, init among them."""
    there = {path.name for directory in BINARIES for path in (tree / directory).iterdir()}
    for applet in map(Path, _run(tree / "bin/busybox", "--list-full").split()):
        if applet.name not in there:
            (tree / applet).parent.mkdir(parents=True, exist_ok=True)
            (tree / applet).symlink_to("/bin/busybox")


def _add_modules(tree: Path, kernel: Kernel, extra: Iterable[str]) -> None:
    order: list[str] = []
    if kernel.modules is not None:
        modules = ModuleTree(kernel.modules)
        order = boot_order(modules, extra)
        root = tree / "lib/modules" / kernel.modules.name
        for name in order:
            path = root / modules.path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(modules.read(name))
        if order:
            (root / "modules.dep").write_text(modules.dependency_file(order))
    (tree / "etc/modules").write_text("".join(f"{name}\n" for name in order))


def _add_host_files(path: Path, source: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, path, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy(source, path)
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from error


def _give_to_root(debugfs: str, tree: Path, image: Path) -> None:
    """mke2fs copies owners, and an ordinary user could give nothing away in the tree."""
    if os.geteuid() == 0:
        return
    paths = [f"/{path.relative_to(tree)}" for path in tree.rglob("*")]
    requests = [f'set_inode_field "{path}" {field} 0\n' for path in paths for field in ("uid", "gid")]
    _run(debugfs, "-w", "-f", "-", image, text="".join(requests))


def _run(*command: str | Path, text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = next(iter(done.stderr.strip().splitlines()), "failed without saying why")
        raise ConfigError(f"{Path(command[0]).name}: {reason}")
    return done.stdout
