"""Small stand-ins for what the tools read: a cpio reader, ELF files with a section, bzImage headers."""

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

Command = Callable[[str, str], None]
Calls = Callable[[], list[str]]


class Member(NamedTuple):
    """An entry as read back from an archive."""

    mode: int
    mtime: int
    owner: int
    links: int
    device: tuple[int, int]
    data: bytes


def read_cpio(archive: bytes) -> dict[str, Member]:
    """All entries in the order they stand in; an independent reader of buffer-format.rst."""
    members: dict[str, Member] = {}
    position = 0
    while True:
        assert archive[position : position + 6] == b"070701"
        digits = archive[position + 6 : position + 110]
        fields = [int(digits[start : start + 8], 16) for start in range(0, 104, 8)]
        _, mode, owner, _, links, mtime, size, _, _, major, minor, name_size, _ = fields
        name = archive[position + 110 : position + 110 + name_size]
        assert name.endswith(b"\0")
        start = (position + 110 + name_size + 3) & ~3
        if name == b"TRAILER!!!\0":
            return members
        data = archive[start : start + size]
        members[name[:-1].decode()] = Member(mode, mtime, owner, links, (major, minor), data)
        position = (start + size + 3) & ~3


def elf_with_section(name: str, content: bytes) -> bytes:
    """An ELF64 file of three sections: none, ``name`` and the section names."""
    names = b"\0" + name.encode() + b"\0.shstrtab\0"
    content_at, names_at = 64, 64 + len(content)
    table_at = names_at + len(names)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<2HI3QI6H", 1, 62, 1, 0, 0, table_at, 0, 64, 0, 0, 64, 3, 2
    )
    entry = struct.Struct("<2I4Q24x")
    sections = [
        entry.pack(0, 0, 0, 0, 0, 0),
        entry.pack(1, 1, 0, 0, content_at, len(content)),
        entry.pack(len(name) + 2, 3, 0, 0, names_at, len(names)),
    ]
    return header + content + names + b"".join(sections)


def kernel_module(*depends: str) -> bytes:
    """What modinfo sees of a module that needs ``depends``; a signature follows the ELF file."""
    information = f"license=GPL\0depends={','.join(depends)}\0name=sample\0".encode()
    return elf_with_section(".modinfo", information) + b"~Module signature appended~\n"


def bzimage(release: str) -> bytes:
    """A setup header that says ``release`` is inside."""
    image = bytearray(0x1000)
    image[0x202:0x206] = b"HdrS"
    image[0x20E:0x210] = struct.pack("<H", 0x400)
    version = f"{release} (builder@host) #1 SMP".encode()
    image[0x600 : 0x600 + len(version)] = version
    return bytes(image)


def module_directory(root: Path, needs: Mapping[str, tuple[str, ...]], builtin: str = "") -> Path:
    """A ``lib/modules/6.1.0-test`` with one file per name in ``needs``."""
    directory = root / "lib/modules/6.1.0-test"
    (directory / "kernel").mkdir(parents=True)
    for name, depends in needs.items():
        (directory / f"kernel/{name}.ko").write_bytes(kernel_module(*depends))
    (directory / "modules.builtin").write_text(builtin)
    return directory
