"""Unix domain sockets: the server of ``unix:PATH,server``, and a client.

The law: no file is removed but a dead socket's, and our own.
"""

from __future__ import annotations

import errno
import os
import socket
import stat

from stratovirt.chardev.client import SocketClient
from stratovirt.chardev.listener import SocketServer
from stratovirt.errors import ConfigError

PATH_LIMIT = 107
"""Bytes of a socket's path: ``sun_path`` of unix(7) less its zero byte."""

OWNER_ONLY = 0o600


class UnixServer(SocketServer):
    """A listening socket at ``path``, mode 0600. :meth:`close` removes the file."""

    def __init__(self, id: str, path: str) -> None:
        super().__init__(id, socket.AF_UNIX, path)
        self.path = path
        self._absolute_path = os.path.abspath(path)  # the same file after a daemon's chdir, too
        self._bound: tuple[int, int] | None = None

    @property
    def filename(self) -> str:
        return f"unix:{self.path},server=on"

    def _bind(self, server: socket.socket) -> None:
        check_path(self.path)
        os.fchmod(server.fileno(), OWNER_ONLY)  # Linux gives the file this mode: it is never wider
        try:
            server.bind(self.path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _remove_stale(self.path)
            server.bind(self.path)
        self._bound = _identity(self._absolute_path)

    def close(self) -> None:
        """Stop listening, and remove the socket file unless another has taken its place."""
        super().close()
        bound, self._bound = self._bound, None
        if bound is not None and _identity(self._absolute_path) == bound:
            os.unlink(self._absolute_path)


class UnixClient(SocketClient):
    """A connection to the socket that someone else listens on at ``path``."""

    def __init__(self, id: str, path: str) -> None:
        super().__init__(id, socket.AF_UNIX, path)
        self.path = path

    @property
    def filename(self) -> str:
        return f"unix:{self.path}"

    def _connect(self, client: socket.socket) -> None:
        check_path(self.path)
        client.connect(self.path)


def check_path(path: str) -> None:
    """Refuse a path that no socket can have.

    :raises ConfigError: it is empty or too long.
    """
    length = len(os.fsencode(path))
    if not 0 < length <= PATH_LIMIT:
        raise ConfigError(f"{path}: a socket's path has 1 to {PATH_LIMIT} bytes, this has {length}")


def _remove_stale(path: str) -> None:
    """Remove the socket file that a dead process left behind.

    :raises ConfigError: it is no socket, or somebody listens on it.
    """
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise ConfigError(f"{path}: exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # alive, with a full backlog
    raise ConfigError(f"{path}: another process listens on this socket")


def _identity(path: str) -> tuple[int, int] | None:
    """Device and inode of the file at ``path``, if there is one."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
