"""From ``-device virtio-vsock-device`` to the device, and the socket that the host's programs connect to."""

from __future__ import annotations

from contextlib import ExitStack

from stratovirt.backends.vsock import UnixHost
from stratovirt.chardev.unix import UnixServer
from stratovirt.cli import config
from stratovirt.devices.virtio.vsock import VirtioVsock
from stratovirt.errors import ConfigError, OptionError


def make_vsock(spec: config.Device, claimed: ExitStack) -> VirtioVsock:
    """The device that ``spec`` describes, already listening.

    :param claimed: removes the socket at the end.
    :raises OptionError: the socket cannot be had.
    """
    path = str(spec.get("uds-path"))
    server = UnixServer(spec.id, path)
    claimed.callback(server.close)
    try:
        server.open()
    except ConfigError as error:
        raise OptionError(f"-device {spec.driver},uds-path=", str(error)) from error
    return VirtioVsock(int(spec.get("guest-cid") or 0), UnixHost(server.listening, path))
