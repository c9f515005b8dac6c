"""Kernel modules: which file holds one, what it needs, and in which order they load.

The law: the modules themselves say what they need (``depends=`` in their .modinfo section), so no
modules.dep has to exist; Debian's package has none before its post-installation script runs depmod.

Source: Linux, scripts/mod/modpost.c (add_depends); kmod's modules.dep(5).
"""

import gzip
import lzma
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

from stratovirt.errors import ConfigError
from stratovirt.tools import elf


def _zstd(data: bytes) -> bytes:
    import zstandard  # only kernels of other distributions need it

    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


DECOMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".ko": bytes,
    ".ko.gz": gzip.decompress,
    ".ko.xz": lzma.decompress,
    ".ko.zst": _zstd,
}


class ModuleTree:
    """The modules of one kernel release.

    :param directory: ``…/lib/modules/RELEASE``.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @cached_property
    def builtin(self) -> frozenset[str]:
        """Names of what is part of the kernel image itself."""
        listing = self.directory / "modules.builtin"
        return (
            frozenset(_name(line) for line in listing.read_text().split())
            if listing.exists()
            else frozenset()
        )

    @cached_property
    def _files(self) -> dict[str, Path]:
        found = (path for path in self.directory.rglob("*.ko*") if _suffix(path) in DECOMPRESSORS)
        return {_name(path.name): path for path in found}

    def __contains__(self, name: str) -> bool:
        return _canonical(name) in self._files or _canonical(name) in self.builtin

    def load_order(self, names: Iterable[str]) -> list[str]:
        """The loadable ones among ``names`` and all that they need, each after what it needs.

        :raise ConfigError: there is no such module, or one of them cannot be read.
        """
        order: dict[str, None] = {}
        for name in names:
            self._visit(_canonical(name), order)
        return list(order)

    def depends(self, name: str) -> list[str]:
        """What module ``name`` says it needs directly; soft dependencies are not among them."""
        try:
            information = elf.section(self.read(name), ".modinfo")
        except (ValueError, OSError, EOFError, lzma.LZMAError) as error:
            raise ConfigError(f"{self._file(name)}: not a kernel module: {error}") from error
        fields = (line.partition(b"=") for line in information.split(b"\0"))
        needed = b",".join(value for key, _, value in fields if key == b"depends")
        return [_canonical(each) for each in needed.decode().split(",") if each]

    def read(self, name: str) -> bytes:
        """The module as insmod wants it: an ELF file, decompressed."""
        path = self._file(name)
        return DECOMPRESSORS[_suffix(path)](path.read_bytes())

    def path(self, name: str) -> str:
        """Where the decompressed module lies below ``directory``, as modules.dep writes it."""
        path = self._file(name)
        return str(path.relative_to(self.directory).with_name(path.name.partition(".")[0] + ".ko"))

    def dependency_file(self, names: Iterable[str]) -> str:
        """modules.dep for ``names``, so that modprobe works in the guest."""
        return "".join(
            f"{self.path(name)}:{''.join(f' {self.path(each)}' for each in self._needed(name))}\n"
            for name in names
        )

    def _needed(self, name: str) -> list[str]:
        """All that ``name`` needs; what must load first stands last, as depmod writes it."""
        return self.load_order([name])[-2::-1]

    def _visit(self, name: str, order: dict[str, None]) -> None:
        if name in order or name in self.builtin:
            return
        for needed in self.depends(name):
            self._visit(needed, order)
        order[name] = None

    def _file(self, name: str) -> Path:
        try:
            return self._files[_canonical(name)]
        except KeyError:
            raise ConfigError(f"no kernel module {name!r} in {self.directory}") from None


def _canonical(name: str) -> str:
    """Dash and underscore are the same in a module's name."""
    return name.replace("-", "_")


def _name(path: str) -> str:
    return _canonical(path.rpartition("/")[2].partition(".")[0])


def _suffix(path: Path) -> str:
    return "".join(path.suffixes)
