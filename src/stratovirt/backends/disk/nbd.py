"""A disk behind a socket: the client's side of NBD, the network block device protocol.

The law: one request at a time; what the server says is checked, and one that breaks the rules is left.

Source: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md, fixed newstyle negotiation and
simple replies.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress

from stratovirt.backends.disk.segments import behind, pieces, total

_GREETING = struct.Struct(">8s8sH")  # magic, magic, flags
_OPTION = struct.Struct(">8sII")  # magic, option, length
_OPTION_REPLY = struct.Struct(">QIII")  # magic, option, type, length
_EXPORT = struct.Struct(">HQH")  # information type, size, flags
_REQUEST = struct.Struct(">IHHQQI")  # magic, flags, type, cookie, offset, length
_REPLY = struct.Struct(">IIQ")  # magic, error, cookie

_OPTION_REPLY_MAGIC, _REQUEST_MAGIC, _REPLY_MAGIC = 0x0003_E889_0455_65A9, 0x2560_9513, 0x6744_6698
_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_GO = 7
_ACK, _INFO = 1, 3
_INFO_EXPORT = 0
_IS_ERROR = 1 << 31

_READ, _WRITE, _DISCONNECT, _FLUSH, _TRIM, _WRITE_ZEROES = 0, 1, 2, 3, 4, 6
_NO_HOLE = 1 << 1
_READ_ONLY, _CAN_TRIM, _CAN_ZERO = 1 << 1, 1 << 5, 1 << 6

PIECE = 16 << 20
"""Bytes of data in a request; servers allow 32 MiB."""
LONGEST_MESSAGE = 64 << 10
"""Of a server's answer in the negotiation; the protocol's strings have 4 KiB."""
BUFFERS = 1024
"""Of one system call (IOV_MAX)."""


class NbdError(Exception):
    """The server does not speak NBD, or refuses the export; the text says how."""


class NbdConnection:
    """A connection to an export, negotiated.

    :param connection: owned by who made it.
    :raises NbdError: the server refuses.
    :raises OSError: the connection is gone.
    :ivar size: of the export, bytes.
    """

    def __init__(self, connection: socket.socket, export: str) -> None:
        self._socket = connection
        self._cookie = 0
        self._greet()
        self.size, self._flags = self._go(export)

    @property
    def read_only(self) -> bool:
        """Does the server forbid writes?"""
        return bool(self._flags & _READ_ONLY)

    def read(self, offset: int, segments: Sequence[memoryview]) -> None:
        """Fill ``segments`` from ``offset`` on."""
        for piece in pieces(segments, PIECE):
            self._request(_READ, offset, total(piece))
            self._reply(piece)
            offset += total(piece)

    def write(self, offset: int, segments: Sequence[memoryview]) -> None:
        """Store ``segments`` at ``offset``."""
        for piece in pieces(segments, PIECE):
            self._request(_WRITE, offset, total(piece), piece)
            self._reply()
            offset += total(piece)

    def flush(self) -> None:
        """Make what was written durable."""
        self._request(_FLUSH, 0, 0)
        self._reply()

    def trim(self, offset: int, length: int) -> None:
        """Discard, if the server can."""
        if self._flags & _CAN_TRIM:
            self._request(_TRIM, offset, length)
            self._reply()

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        """Make the range read zero."""
        if not self._flags & _CAN_ZERO:
            raise OSError(errno.EOPNOTSUPP, "the NBD server cannot write zeroes")
        self._request(_WRITE_ZEROES, offset, length, flags=0 if unmap else _NO_HOLE)
        self._reply()

    def disconnect(self) -> None:
        """Tell the server that this was all."""
        self._request(_DISCONNECT, 0, 0)

    def abandon(self) -> None:
        """Leave at once: who waits for a reply gets an error, and everybody from now on. Any thread."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _greet(self) -> None:
        magic, option_magic, flags = _GREETING.unpack(self._receive(_GREETING.size))
        if magic != b"NBDMAGIC" or option_magic != b"IHAVEOPT" or not flags & _FIXED_NEWSTYLE:
            raise NbdError("the server's greeting is not that of NBD (fixed newstyle)")
        self._socket.sendall(struct.pack(">I", _FIXED_NEWSTYLE | flags & _NO_ZEROES))

    def _go(self, export: str) -> tuple[int, int]:
        """Choose the export; its size and flags."""
        name = export.encode()
        data = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
        self._socket.sendall(_OPTION.pack(b"IHAVEOPT", _GO, len(data)) + data)
        size = flags = None
        while True:
            kind, message = self._option_reply()
            if kind & _IS_ERROR:
                said = message.decode(errors="replace")
                raise NbdError(said or f"the server refuses the export: error {kind & ~_IS_ERROR}")
            if kind == _INFO and len(message) == _EXPORT.size:
                information, size, flags = _EXPORT.unpack(message)
                if information != _INFO_EXPORT:
                    size = flags = None
            elif kind == _ACK:
                if size is None or flags is None:
                    raise NbdError("the server does not tell the size of the export")
                return size, flags

    def _option_reply(self) -> tuple[int, bytes]:
        magic, option, kind, length = _OPTION_REPLY.unpack(self._receive(_OPTION_REPLY.size))
        if magic != _OPTION_REPLY_MAGIC or option != _GO or length > LONGEST_MESSAGE:
            raise NbdError("the server's answer is not NBD")
        return kind, self._receive(length)

    def _request(
        self, kind: int, offset: int, length: int, data: Sequence[memoryview] = (), flags: int = 0
    ) -> None:
        self._cookie += 1
        header = _REQUEST.pack(_REQUEST_MAGIC, flags, kind, self._cookie, offset, length)
        left: Sequence[memoryview] = [memoryview(header), *data]
        while left:
            left = behind(left, self._socket.sendmsg(left[:BUFFERS]))

    def _reply(self, into: Sequence[memoryview] = ()) -> None:
        magic, error, cookie = _REPLY.unpack(self._receive(_REPLY.size))
        if magic != _REPLY_MAGIC or cookie != self._cookie:
            self.abandon()
            raise OSError(errno.EPROTO, "the NBD server's reply is to something else")
        if error:
            number = error if error in errno.errorcode else errno.EIO
            raise OSError(number, os.strerror(number))
        self._receive_into(into)

    def _receive(self, length: int) -> bytes:
        data = bytearray(length)
        self._receive_into([memoryview(data)])
        return bytes(data)

    def _receive_into(self, segments: Sequence[memoryview]) -> None:
        left = [segment for segment in segments if segment]
        while left:
            received = self._socket.recvmsg_into(left[:BUFFERS])[0]
            if not received:
                raise ConnectionResetError(errno.ECONNRESET, "the NBD server has ended")
            left = behind(left, received)
