"""The guest's virtconsoles: each a port of its virtio-serial device, carried by a character device.

The law: a console's task has ended before its character device is anybody else's.
"""

from __future__ import annotations

import trio

from stratovirt.chardev.protocol import Chardev
from stratovirt.chardev.streamport import StreamPort
from stratovirt.devices.virtio.console import VirtioConsole
from stratovirt.errors import ConfigError
from stratovirt.nursery.console import Carrier, Console


class Virtconsole:
    """A console that is plugged in.

    :param number: of its port: hvc0 for the first, as a rule.
    :param chardev: id of the character device.
    """

    def __init__(self, number: int, chardev: str, console: Console) -> None:
        self.number = number
        self.chardev = chardev
        self.console = console
        self.scope = trio.CancelScope()
        self.gone = trio.Event()


class Consoles:
    """Those of one machine.

    :param device: None: the machine has no virtio-serial device.
    """

    def __init__(self, device: VirtioConsole | None = None) -> None:
        self.device = device
        self._plugged: dict[str, Virtconsole] = {}
        self._nursery: trio.Nursery | None = None

    def __contains__(self, id: str) -> bool:
        return id in self._plugged

    def add(self, id: str, carrier: Chardev) -> None:
        """A new console; with the device's lock held, once the machine runs.

        :raises ConfigError: the device has no port left for it.
        """
        assert self.device is not None
        port = StreamPort()
        number = self.device.plug(port)
        if number is None:
            raise ConfigError(
                f"no port is left: the virtio-serial-device has max_ports={self.device.max_ports}"
            )
        console = self._plugged[id] = Virtconsole(number, carrier.id, Console(port, carrier))
        if self._nursery is not None:
            self._nursery.start_soon(self._serve, console)

    async def remove(self, id: str) -> str:
        """The console goes; the id of the character device that carried it, which nobody serves now."""
        assert self.device is not None
        console = self._plugged.pop(id)
        console.scope.cancel()
        if self._nursery is not None:
            await console.gone.wait()
        with self.device.transport.lock:
            self.device.unplug(console.number)
        return console.chardev

    def share(self, chardev: Carrier, shared: Carrier) -> None:
        """Whoever is carried by ``chardev`` is carried by ``shared`` instead; before :meth:`run`."""
        for one in self._plugged.values():
            if one.console.carrier is chardev:
                one.console = Console(one.console.port, shared)

    async def run(self) -> None:
        """Carry all of them until cancelled."""
        async with trio.open_nursery() as self._nursery:
            for console in self._plugged.values():
                self._nursery.start_soon(self._serve, console)
            await trio.sleep_forever()

    async def drain(self, deadline: float) -> None:
        """Wait until their output is written; see :meth:`BytePort.drain`."""
        for console in self._plugged.values():
            await console.console.port.drain(deadline)

    async def _serve(self, console: Virtconsole) -> None:
        with console.scope:
            await console.console.serve()
        console.gone.set()
