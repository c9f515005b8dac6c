"""The archive of an initramfs: cpio "newc", as Linux unpacks it.

The law: the same entries give the same bytes. Entries are sorted by path, owned by root, dated 1970, and
inode numbers count up in that order, so an image can be compared, cached by its hash and shipped.

Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import stat
from dataclasses import dataclass
from pathlib import PurePosixPath

MAGIC = "070701"
TRAILER = "TRAILER!!!"
ALIGNMENT = 4
MAX_FILE_SIZE = 0xFFFF_FFFF  # c_filesize has eight hexadecimal digits


@dataclass(frozen=True)
class Entry:
    """A file, directory, symbolic link or device node; ``data`` is a link's target."""

    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


class Archive:
    """A tree of entries by absolute path; missing parent directories come by themselves."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def file(self, path: str, data: bytes, *, executable: bool = False) -> None:
        """Add a file of mode 0644, or 0755.

        :raise ValueError: it is larger than the format can say.
        """
        if len(data) > MAX_FILE_SIZE:
            raise ValueError(f"{path}: larger than 4 GiB, which a cpio archive cannot hold")
        self._add(path, Entry(stat.S_IFREG | (0o755 if executable else 0o644), data))

    def directory(self, path: str) -> None:
        self._add(path, Entry(stat.S_IFDIR | 0o755))

    def symlink(self, path: str, target: str) -> None:
        self._add(path, Entry(stat.S_IFLNK | 0o777, target.encode()))

    def character_device(self, path: str, major: int, minor: int) -> None:
        """Add a device node of mode 0600: writing one into an archive needs no privilege."""
        self._add(path, Entry(stat.S_IFCHR | 0o600, device=(major, minor)))

    def to_bytes(self) -> bytes:
        """The archive, a multiple of four bytes long."""
        parts = [
            _record(inode, path, entry)
            for inode, (path, entry) in enumerate(sorted(self._entries.items()), 1)
        ]
        parts.append(_record(0, TRAILER, Entry(mode=0)))
        return b"".join(parts)

    def _add(self, path: str, entry: Entry) -> None:
        relative = PurePosixPath(path).relative_to("/")
        for parent in relative.parents[:-1]:
            self._entries.setdefault(str(parent), Entry(stat.S_IFDIR | 0o755))
        self._entries[str(relative)] = entry


def _record(inode: int, path: str, entry: Entry) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    owner = group = time = major = minor = checksum = 0
    fields = [inode, entry.mode, owner, group, links, time, len(entry.data), major, minor]
    fields += [*entry.device, len(name), checksum]
    header = MAGIC + "".join(f"{field:08X}" for field in fields)
    return _padded(header.encode() + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)
