"""``stratovirt-guest``: get a kernel, build an initramfs or a root disk; prints the path of what it made.

The law: stdout is the path and nothing else, so a shell can say ``-kernel $(stratovirt-guest kernel)``;
progress and the one line of an error go to stderr, and the exit status is 0, 1 or, for usage, 2.
"""

import argparse
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from stratovirt.errors import ConfigError
from stratovirt.tools import disk, initramfs
from stratovirt.tools.kernelbuild import build_kernel
from stratovirt.tools.kernels import FLAVOURS, Kernel, any_kernel, debian_kernel

BUILT = "microvm"  # the flavour that is compiled here, from Debian's source


def main(argv: Sequence[str] | None = None) -> int:
    """The console script; returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="stratovirt-guest: %(message)s", stream=sys.stderr)
    arguments = _parser().parse_args(argv)
    try:
        print(arguments.run(arguments))
    except ConfigError as error:
        print(f"stratovirt-guest: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"stratovirt-guest: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # what a shell reports for a command that SIGINT ended
    return 0


def cache_directory(environment: Mapping[str, str]) -> Path:
    """Where kernels and images are kept: STRATOVIRT_GUEST_DIR, or by the XDG base directory rules."""
    if chosen := environment.get("STRATOVIRT_GUEST_DIR"):
        return Path(chosen)
    base = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME", "/"), ".cache")
    return Path(base) / "stratovirt" / "guest"


def publish(image: bytes, path: Path) -> Path:
    """Write ``image`` to ``path`` in one rename: a guest that starts meanwhile sees one whole image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_bytes(image)
    return scratch.replace(path)


def _kernel(arguments: argparse.Namespace) -> Path:
    if arguments.flavour == BUILT:
        return build_kernel(arguments.dir, arguments.jobs)
    return _chosen_kernel(arguments.flavour, arguments.dir).image


def _initramfs(arguments: argparse.Namespace) -> Path:
    directory: Path = arguments.dir
    kernel = Kernel.at(arguments.kernel) if arguments.kernel else _chosen_kernel(None, directory)
    busybox = initramfs.find_busybox(directory)
    image = initramfs.build(kernel, busybox, init=arguments.init, modules=arguments.module, add=arguments.add)
    return publish(image, arguments.output or directory / f"initramfs-{kernel.image.name}.cpio")


def _disk(arguments: argparse.Namespace) -> Path:
    directory: Path = arguments.dir
    kernel = Kernel.at(arguments.kernel) if arguments.kernel else _chosen_kernel(None, directory)
    return disk.build(
        directory,
        kernel,
        arguments.output or directory / f"disk-{kernel.image.name}.ext4",
        size=arguments.size,
        packages=arguments.package,
        modules=arguments.module,
        add=arguments.add,
    )


def _chosen_kernel(flavour: str | None, cache: Path) -> Kernel:
    """By --flavour, which is more explicit than the environment; by KERNEL; or the one we find."""
    if flavour is not None:
        return debian_kernel(flavour, cache)
    named = os.environ.get("KERNEL")
    return Kernel.at(Path(named)) if named else any_kernel(cache)


def _added(text: str) -> tuple[Path, str]:
    source, separator, path = text.rpartition("=")
    if not separator or not source or not path.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST=GUEST with an absolute path in the guest")
    return Path(source), path


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _size(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,9})([MG])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 256M or 2G")
    return int(found[1]) << {"M": 20, "G": 30}[found[2]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stratovirt-guest", description="Get a Linux guest to boot.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--dir",
        type=Path,
        default=cache_directory(os.environ),
        help="where kernels and images are kept (default: $STRATOVIRT_GUEST_DIR or %(default)s)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    kernel = commands.add_parser("kernel", parents=[common], help="find or download a kernel; print its path")
    kernel.add_argument(
        "--flavour",
        choices=sorted([*FLAVOURS, BUILT]),
        help=f"Debian's kernel of that flavour, not $KERNEL; {BUILT}: built for the machine from its source",
    )
    kernel.add_argument("--jobs", type=_positive, help=f"compile so many files at once (with {BUILT})")
    kernel.set_defaults(run=_kernel)

    image = commands.add_parser(
        "initramfs", parents=[common, _contents()], help="build an initramfs; print its path"
    )
    image.add_argument("--init", type=Path, help="program to run as process 1, instead of ending in a shell")
    image.set_defaults(run=_initramfs)

    root = commands.add_parser(
        "disk", parents=[common, _contents()], help="build a root disk; print its path"
    )
    root.add_argument("--size", type=_size, default=disk.SIZE, help="of the image, which is sparse: 256M, 2G")
    root.add_argument("--package", action="append", default=[], help="put this Debian package on it as well")
    root.set_defaults(run=_disk)
    return parser


def _contents() -> argparse.ArgumentParser:
    """What an initramfs and a root disk have in common."""
    contents = argparse.ArgumentParser(add_help=False)
    contents.add_argument(
        "--kernel", type=Path, help="take modules of this kernel (default: as `kernel` finds it)"
    )
    contents.add_argument("--module", action="append", default=[], help="load this kernel module as well")
    contents.add_argument(
        "--add",
        type=_added,
        action="append",
        default=[],
        metavar="HOST=GUEST",
        help="add a file or directory",
    )
    contents.add_argument("-o", "--output", type=Path, help="write to this file instead of one in --dir")
    return contents


if __name__ == "__main__":
    sys.exit(main())
