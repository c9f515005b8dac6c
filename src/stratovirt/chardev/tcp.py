"""TCP sockets: the server of ``tcp:IP:PORT,server``, and a client. Addresses are IP literals: no resolver
is asked, so that a machine starts the same with and without a network.

``trio.SocketStream`` sets TCP_NODELAY by itself.
"""

from __future__ import annotations

import ipaddress
import logging
import socket

from stratovirt.chardev.client import SocketClient
from stratovirt.chardev.listener import SocketServer
from stratovirt.errors import ConfigError

_log = logging.getLogger(__name__)


class TcpServer(SocketServer):
    """A listening socket at ``host`` (an IP literal) and ``port`` (0: the kernel chooses)."""

    def __init__(self, id: str, host: str, port: int) -> None:
        super().__init__(id, _family(host), _spell(host, port))
        self._host = host
        self._port = port

    @property
    def port(self) -> int:
        """The port listened on; the one asked for while it is not open."""
        return int(self._socket.getsockname()[1]) if self._socket else self._port

    @property
    def filename(self) -> str:
        return f"tcp:{_spell(self._host, self.port)},server=on"

    def _bind(self, server: socket.socket) -> None:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart does not wait for TIME_WAIT
        server.bind((self._host, self._port))
        if not ipaddress.ip_address(self._host).is_loopback:
            _log.warning(
                "%s: whoever reaches this address is let in: there is no authentication", self._address
            )


class TcpClient(SocketClient):
    """A connection to ``host`` (an IP literal) and ``port``."""

    def __init__(self, id: str, host: str, port: int) -> None:
        super().__init__(id, _family(host), _spell(host, port))
        self._host = host
        self._port = port

    @property
    def filename(self) -> str:
        return f"tcp:{self._address}"

    def _connect(self, client: socket.socket) -> None:
        client.connect((self._host, self._port))


def _family(host: str) -> socket.AddressFamily:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        raise ConfigError(f"{host}: not an IP address") from None
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _spell(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
