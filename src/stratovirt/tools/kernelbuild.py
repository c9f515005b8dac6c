"""The kernel built for the machine: Debian's Linux source, compiled with ``microvm-6.1.config``.

Everything the machine has is built in and nothing else is, so it needs no modules and reaches userspace in
a fraction of a distribution kernel's time. Without ACPI it finds its devices by the MP table and
``virtio_mmio.device=`` on its command line.

The law: the finished kernel appears under its name in one rename, and the name changes with the
configuration. A build that was interrupted goes on where it was; of two at once, one waits for the other.
"""

import fcntl
import hashlib
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TextIO

from stratovirt.errors import ConfigError
from stratovirt.tools.debian import Debian

log = logging.getLogger(__name__)

RELEASE = "6.1"
CONFIG = f"microvm-{RELEASE}.config"
SOURCE = f"linux-source-{RELEASE}"
IMAGE = "arch/x86/boot/bzImage"
LOG = "build.log"
# What the kernel's build runs, and the Debian package that has it.
PROGRAMS = {
    "make": "make",
    "gcc": "gcc",
    "ld": "binutils",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "perl": "perl",
    "lz4": "lz4",
    "tar": "tar",
    "xz": "xz-utils",
}
HEADERS = {"gelf.h": "libelf-dev"}  # for objtool, which the build compiles for itself and runs
FILES = 1440  # that this configuration compiles and links, roughly: what progress is a share of
STEP = 100  # files between two lines of progress


def build_kernel(cache: Path, jobs: int | None = None) -> Path:
    """The bzImage, from ``cache`` or compiled now: some ten minutes on two cores, and 1.5 GB meanwhile.

    :param jobs: compilers at once; as many as this process may use CPUs, unless said.
    :raise ConfigError: a tool is missing, the source cannot be had, or it does not compile.
    """
    target = _target(cache)
    if not target.is_dir():
        _require_tools()
        with _tree(cache / f".build-{target.name}") as tree:
            if not target.is_dir():  # another run may have built it while this one waited
                _unpack(_source(cache), _config(), tree)
                _make(tree, jobs or len(os.sched_getaffinity(0)))
                _publish(tree, target)
    return _image(target)


def built_kernel(cache: Path) -> Path | None:
    """The bzImage, if ``cache`` has it: for those who cannot wait."""
    target = _target(cache)
    return _image(target) if target.is_dir() else None


def _target(cache: Path) -> Path:
    return cache / f"linux-microvm-{RELEASE}-{hashlib.sha256(_config()).hexdigest()[:8]}"


def _config() -> bytes:
    return (resources.files("stratovirt.tools") / CONFIG).read_bytes()


def _image(target: Path) -> Path:
    return next(target.glob("boot/vmlinuz-*"))


def _require_tools() -> None:
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if "gcc" not in missing:
        missing += [package for header, package in HEADERS.items() if not _compiles(header)]
    if missing:
        raise ConfigError(
            f"building a kernel needs {', '.join(missing)}: apt-get install {' '.join(missing)}"
        )


def _compiles(header: str) -> bool:
    command = ["gcc", "-E", "-o", os.devnull, "-"]
    text = f"#include <{header}>\n"
    return subprocess.run(command, input=text, text=True, capture_output=True, check=False).returncode == 0


@contextmanager
def _tree(directory: Path) -> Iterator[Path]:
    """The directory to build in, ours alone; kept if the block fails, for the next run to go on with."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    lock_file = directory.with_name(f"{directory.name}.lock")
    with lock_file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another run is building this kernel: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        directory.mkdir(exist_ok=True)
        yield directory
        shutil.rmtree(directory)
        lock_file.unlink(missing_ok=True)


def _source(cache: Path) -> Path:
    package = Debian(cache).obtain(SOURCE.replace(".", r"\."))
    archive = package / f"usr/src/{SOURCE}.tar.xz" if package else None
    if archive is None or not archive.exists():
        raise ConfigError(f"apt has no {SOURCE}")
    return archive


def _unpack(archive: Path, config: bytes, tree: Path) -> None:
    """The configuration is written last: where it is, the source is whole."""
    if (tree / ".config").exists():
        return
    log.info("unpacking %s", archive.name)
    _run(["tar", "-xf", str(archive), "--strip-components=1", "-C", str(tree)], tree)
    (tree / ".config").write_bytes(config)


def _make(tree: Path, jobs: int) -> None:
    log.info("compiling Linux %s, %d files at once", RELEASE, jobs)
    _run(["make", "-C", str(tree), "olddefconfig"], tree)
    _run(["make", "-C", str(tree), f"-j{jobs}", "bzImage"], tree)


def _run(command: list[str], tree: Path) -> None:
    """A step of the build; what it prints is kept in the tree, with a line of progress now and then.

    :raise ConfigError: it failed.
    """
    with (
        (tree / LOG).open("w") as kept,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        complaint = _follow(process.stdout, kept)
    if process.returncode != 0:
        raise ConfigError(f"{command[0]}: {complaint or 'failed without saying why'} (see {tree / LOG})")


def _follow(output: Iterable[str], kept: TextIO) -> str | None:
    """Copy ``output`` and report progress; the first line of it that tells of an error, else the last."""
    files, last, error = 0, None, None
    for line in output:
        kept.write(line)
        last = line.strip() or last
        if error is None and re.search(r"error:|\*\*\*", line, re.IGNORECASE):
            error = last
        if re.match(r"  [A-Z]+ +\S", line):  # "  CC      kernel/fork.o"
            files += 1
            if files % STEP == 0:
                log.info("%d of some %d files, %s", files, FILES, line.split()[-1])
    return error or last


def _publish(tree: Path, target: Path) -> None:
    release = (tree / "include/config/kernel.release").read_text().strip()
    scratch = tree / "published"
    (scratch / "boot").mkdir(parents=True, exist_ok=True)
    shutil.copy(tree / IMAGE, scratch / f"boot/vmlinuz-{release}")
    scratch.rename(target)
