"""From ``-device vhost-user-fs-device`` to the device, connected to its file server."""

from __future__ import annotations

from stratovirt.backends.vhostuser import VhostUser
from stratovirt.chardev.unix import UnixClient
from stratovirt.cli import Config, config
from stratovirt.devices.virtio.constants import RING_INDIRECT_DESC, VERSION_1
from stratovirt.devices.virtio.fs import MAX_TAG, VirtioFs
from stratovirt.errors import OptionError
from stratovirt.nursery import ram
from stratovirt.nursery.chardevs import Chardevs, device_user

NEEDED = VERSION_1 | RING_INDIRECT_DESC


def make_fs(spec: config.Device, options: Config, chardevs: Chardevs) -> VirtioFs:
    """The device that ``spec`` describes.

    :raises OptionError: RAM is not shared, or nobody that serves files is at the other end.
    """
    about, tag, id = f"-device {spec.driver}", str(spec.get("tag")), str(spec.get("chardev"))
    if len(tag.encode()) > MAX_TAG:
        raise OptionError(f"{about},tag={tag}", f"at most {MAX_TAG} bytes")
    if not ram.is_shared(options):
        raise OptionError(about, "its server maps guest memory; add -machine mem-share=on")
    chardev = chardevs.use(id, device_user(spec.id))
    if not isinstance(chardev, UnixClient):
        raise OptionError(
            f"{about},chardev={id}", "must be a socket,path= that virtiofsd listens on, without server"
        )
    server = VhostUser(chardev.take())
    try:
        _check(server.features())
    except OSError as error:
        server.close()
        reason = error.strerror or "it does not answer"
        raise OptionError(f"{about},chardev={id}", f"{chardev.path}: no file server: {reason}") from error
    return VirtioFs(tag, server)


def _check(features: int) -> None:
    if features & NEEDED != NEEDED:
        raise OSError(0, f"it offers the features {features:#x}, {NEEDED:#x} are needed")
