"""From the command line's description of a character device to the device itself."""

from __future__ import annotations

from stratovirt.chardev.protocol import Chardev
from stratovirt.cli import config


def make_chardev(spec: config.Chardev) -> Chardev:
    """The device that ``spec`` describes, not yet open."""
    if isinstance(spec, config.SocketChardev):
        return make_socket(spec.id, spec.address, server=spec.server)
    if isinstance(spec, config.StdioChardev):
        from stratovirt.chardev.stdio import Stdio

        return Stdio(spec.id)
    if isinstance(spec, config.PtyChardev):
        from stratovirt.chardev.pty import Pty

        return Pty(spec.id)
    from stratovirt.chardev.sinks import File, Null, RingBuffer

    if isinstance(spec, config.FileChardev):
        return File(spec.id, spec.path)
    if isinstance(spec, config.RingbufChardev):
        return RingBuffer(spec.id, spec.size)
    return Null(spec.id)


def make_socket(id: str, address: config.Address, *, server: bool) -> Chardev:
    """A listening or connecting socket at ``address``."""
    if isinstance(address, config.UnixAddress):
        from stratovirt.chardev.unix import UnixClient, UnixServer

        return UnixServer(id, address.path) if server else UnixClient(id, address.path)
    from stratovirt.chardev.tcp import TcpClient, TcpServer

    return TcpServer(id, address.host, address.port) if server else TcpClient(id, address.host, address.port)
