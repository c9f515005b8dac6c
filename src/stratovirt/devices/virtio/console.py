"""virtio-console: terminals of the guest, hvc0 and on (virtio 1.2 §5.3).

The law: output is taken from the queue only as far as its line has room, so a reader that is stuck delays
its own console alone; input is taken from the line only when the guest has a buffer for it.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

from stratovirt.devices.virtio.constants import ID_CONSOLE
from stratovirt.devices.virtio.device import VirtioDevice
from stratovirt.devices.virtio.queue import Chain, Virtqueue, cut

log = logging.getLogger(__name__)

MULTIPORT = 1 << 1

QUEUE_SIZE = 64
"""Linux fills an input queue with a page per entry."""
MAX_PORTS = 31
"""StratoVirt's and QEMU's."""
CONTROL_IN, CONTROL_OUT = 2, 3  # queues; each port has an input queue with an even number, and the next one

_CONFIG = struct.Struct("<HHI")  # cols, rows, max_nr_ports; the size is not offered
_CONTROL = struct.Struct("<IHH")  # port, event, value (§5.3.6.2)
DEVICE_READY, DEVICE_ADD, DEVICE_REMOVE, PORT_READY, CONSOLE_PORT, _RESIZE, PORT_OPEN = range(7)

MAX_MESSAGES = 8 * MAX_PORTS
"""Control messages that wait for the driver; one that asks for more than it takes gets no more."""


class ConsoleLine(Protocol):
    """The host's end of a port (:class:`stratovirt.chardev.streamport.StreamPort`).

    :ivar on_input: called when bytes wait to be taken.
    :ivar on_room: called when there may be room again.
    """

    on_input: Callable[[], None]
    on_room: Callable[[], None]

    def room(self) -> int:
        """Bytes of output that it takes now."""

    def put(self, data: bytes) -> None: ...

    def has_input(self) -> bool: ...

    def take(self, limit: int) -> bytes: ...


class Message(NamedTuple):
    """A control message for the driver."""

    port: int
    event: int
    value: int


@dataclass
class _Port:
    """A port that is plugged in.

    :ivar open: the guest reads its input.
    :ivar head: of the chain of output in hand; None: there is none.
    :ivar sent: how much of that has gone to the line.
    """

    line: ConsoleLine
    open: bool = False
    head: int | None = None
    sent: int = 0

    def reset(self) -> None:
        self.open, self.head, self.sent = False, None, 0


class VirtioConsole(VirtioDevice):
    """A device with room for ``max_ports`` consoles."""

    device_id = ID_CONSOLE
    features = MULTIPORT

    def __init__(self, max_ports: int) -> None:
        self.max_ports = max_ports
        self.queue_sizes = (QUEUE_SIZE,) * (2 * max_ports + 2)
        self._ports: dict[int, _Port] = {}
        self._multiport = False
        self._ready = False  # the driver wants to hear of ports
        self._messages: list[Message] = []

    # -- the host's side: with the transport's lock, once there is one -------------------------------

    def plug(self, line: ConsoleLine) -> int | None:
        """A new console with ``line`` at its other end; its number, None if no port is free."""
        for number in range(self.max_ports):
            if number not in self._ports:
                line.on_input = partial(self._ring, _input_queue(number))
                line.on_room = partial(self._ring, _output_queue(number))
                self._ports[number] = _Port(line)
                self._announce(number, DEVICE_ADD)
                return number
        return None

    def unplug(self, number: int) -> None:
        """The console goes; what the guest still writes to it is lost."""
        port = self._ports.pop(number)
        queue = self.transport.queue(_output_queue(number))
        if port.head is not None and queue is not None:
            queue.push(Chain(port.head))
            queue.notify()
        self._announce(number, DEVICE_REMOVE)
        self._ring(_output_queue(number))

    # -- the driver's side ---------------------------------------------------------------------------

    def config(self) -> bytes:
        """See :class:`VirtioDevice`."""
        return _CONFIG.pack(0, 0, self.max_ports)

    def activate(self, features: int) -> None:
        """See :class:`VirtioDevice`; a driver that knows of one port uses it without a word."""
        self._multiport = bool(features & MULTIPORT)
        if not self._multiport and 0 in self._ports:
            self._ports[0].open = True

    def reset(self) -> None:
        """See :class:`VirtioDevice`."""
        self._ready = False
        self._messages.clear()
        for port in self._ports.values():
            port.reset()

    def backend_facts(self) -> dict[str, Any]:
        """See :class:`VirtioDevice`."""
        return {"virtconsoles on ports": sorted(self._ports)}

    def save(self) -> dict[str, Any]:
        """See :class:`VirtioDevice`; what a line has in hand stays with the host."""
        ports = {str(number): [port.open, port.head, port.sent] for number, port in self._ports.items()}
        return {"ready": self._ready, "messages": [list(one) for one in self._messages], "ports": ports}

    def load(self, version: int, state: dict[str, Any]) -> None:
        """See :class:`VirtioDevice`."""
        self._ready = state["ready"]
        self._messages = [Message(*one) for one in state["messages"]]
        for number, saved in state["ports"].items():
            if port := self._ports.get(int(number)):
                port.open, port.head, port.sent = saved

    # -- the device's thread -------------------------------------------------------------------------

    def serve(self, queue: Virtqueue) -> bool:
        """See :class:`VirtioDevice`."""
        if self._multiport and queue.index in (CONTROL_IN, CONTROL_OUT):
            return self._tell(queue) if queue.index == CONTROL_IN else self._hear(queue)
        port = self._ports.get(_port_of(queue.index))
        if queue.index % 2 == 0:
            return port is not None and port.open and self._receive(queue, port)
        return self._transmit(queue, port) if port is not None else self._swallow(queue)

    def _receive(self, queue: Virtqueue, port: _Port) -> bool:
        """One buffer of input for the guest, if there is any."""
        chain = queue.pop() if port.line.has_input() else None
        if chain is None:
            return False
        queue.push(chain, chain.write(port.line.take(chain.writable_length)))
        return True

    def _transmit(self, queue: Virtqueue, port: _Port) -> bool:
        """As much of one buffer of output as there is room for."""
        room = port.line.room()
        if not room:
            return False
        chain = queue.pop() if port.head is None else queue.chain_at(port.head)
        if chain is None:
            return False
        data = b"".join(cut(chain.readable, port.sent, room))
        port.line.put(data)
        port.head, port.sent = chain.head, port.sent + len(data)
        if port.sent >= chain.readable_length:
            queue.push(chain)
            port.head, port.sent = None, 0
        return True

    def _swallow(self, queue: Virtqueue) -> bool:
        """Output of a console that is not there any more: Linux waits for its end with a lock held."""
        chain = queue.pop()
        if chain is None:
            return False
        queue.push(chain)
        return True

    def _tell(self, queue: Virtqueue) -> bool:
        """The next control message to the driver, if there is one."""
        chain = queue.pop() if self._messages else None
        if chain is None:
            return False
        queue.push(chain, chain.write(_CONTROL.pack(*self._messages.pop(0))))
        return True

    def _hear(self, queue: Virtqueue) -> bool:
        """A control message of the driver."""
        chain = queue.pop()
        if chain is None:
            return False
        data = chain.read(_CONTROL.size)
        queue.push(chain)
        if len(data) == _CONTROL.size:
            self._obey(Message(*_CONTROL.unpack(data)))
        return True

    def _obey(self, message: Message) -> None:
        port = self._ports.get(message.port)
        if message.event == DEVICE_READY:
            self._ready = bool(message.value)
            for number in self._ports:
                self._announce(number, DEVICE_ADD)
        elif message.event == PORT_READY and port is not None and message.value:
            self._announce(message.port, CONSOLE_PORT)
            self._announce(message.port, PORT_OPEN)
        elif message.event == PORT_OPEN and port is not None:
            port.open = bool(message.value)
            self._ring(_input_queue(message.port))

    def _announce(self, number: int, event: int) -> None:
        """A message for the driver, once it listens."""
        if self._ready and len(self._messages) < MAX_MESSAGES:
            self._messages.append(Message(number, event, 1))
            self._ring(CONTROL_IN)

    def _ring(self, index: int) -> None:
        self.transport.ring(index)


def _input_queue(port: int) -> int:
    """The control queues are behind those of port 0 (§5.3.2)."""
    return 0 if port == 0 else 2 * port + 2


def _output_queue(port: int) -> int:
    return _input_queue(port) + 1


def _port_of(index: int) -> int:
    """The port that a queue belongs to; -1 for the control queues of a driver without ports."""
    if index in (CONTROL_IN, CONTROL_OUT):
        return -1
    return 0 if index < CONTROL_IN else index // 2 - 1
