"""State groups: opaque structures that KVM gives, and takes back.

The law: a group is bytes exactly as the kernel laid them out; nothing here looks inside. A group that
has the wrong length or that the kernel refuses is an AcceleratorError that names it.
"""

from __future__ import annotations

from dataclasses import dataclass

from stratovirt.accel.kvm._kvm import ffi
from stratovirt.accel.kvm.ioctl import ioctl
from stratovirt.errors import AcceleratorError


@dataclass(frozen=True)
class Group:
    """One structure that can be read and written whole.

    :param name: its key in a saved state.
    :param size: bytes.
    :param header: what has to stand at its start for KVM to know which one is meant.
    """

    name: str
    get: str
    set: str
    size: int
    header: bytes = b""

    def save(self, fd: int) -> bytes:
        """The group as it is now.

        :raises OSError: the kernel refuses.
        """
        buffer = ffi.new("char[]", self.size)
        ffi.memmove(buffer, self.header, len(self.header))
        ioctl(fd, self.get, buffer)
        return bytes(ffi.buffer(buffer))

    def load(self, fd: int, data: bytes) -> None:
        """Put saved ``data`` in.

        :raises AcceleratorError: it is not of this group, or the kernel refuses it.
        """
        if len(data) != self.size:
            raise AcceleratorError(f"saved {self.name} has {len(data)} bytes, not {self.size}")
        try:
            ioctl(fd, self.set, ffi.from_buffer(data))
        except OSError as error:
            raise AcceleratorError(f"saved {self.name} is refused: {error.strerror}") from error


def structure(name: str, kind: str, suffix: str, header: bytes = b"") -> Group:
    """The group kept in ``struct kind``, read by KVM_GET_``suffix`` and written by KVM_SET_``suffix``."""
    return Group(name, f"KVM_GET_{suffix}", f"KVM_SET_{suffix}", ffi.sizeof(f"struct {kind}"), header)
