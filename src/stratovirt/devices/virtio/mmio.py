"""The virtio-mmio transport, version 2 (virtio 1.2 §4.2): a device's registers in guest memory space.

The law: registers never raise and never wait for trio. Resetting the device, enabling a queue and DRIVER_OK
wait for the unit of work in hand; every other register answers at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from stratovirt.accel.protocol import IrqLine
from stratovirt.devices.virtio.barrier import enable_full_barrier
from stratovirt.devices.virtio.constants import (
    CONFIG_CHANGE,
    DRIVER_OK,
    FEATURES_OK,
    NEEDS_RESET,
    RING_EVENT_IDX,
    RING_INDIRECT_DESC,
    USED_BUFFER,
    VERSION_1,
)
from stratovirt.devices.virtio.device import Reactor, VirtioDevice
from stratovirt.devices.virtio.interrupt import Interrupt
from stratovirt.devices.virtio.kick import Kick
from stratovirt.devices.virtio.queue import BrokenQueue, Rings, Virtqueue
from stratovirt.devices.virtio.telling import worth_telling
from stratovirt.memory import GuestMemory

log = logging.getLogger(__name__)

MAGIC = int.from_bytes(b"virt", "little")
VERSION = 2
VENDOR = int.from_bytes(b"QEMU", "little")
"""QEMU's and StratoVirt's: a driver may know its quirks by it, and there are none."""

# Register offsets (§4.2.2, table 4.1).
MAGIC_VALUE, VERSION_REGISTER, DEVICE_ID, VENDOR_ID = 0x000, 0x004, 0x008, 0x00C
DEVICE_FEATURES, DEVICE_FEATURES_SEL = 0x010, 0x014
DRIVER_FEATURES, DRIVER_FEATURES_SEL = 0x020, 0x024
QUEUE_SEL, QUEUE_NUM_MAX, QUEUE_NUM, QUEUE_READY = 0x030, 0x034, 0x038, 0x044
QUEUE_NOTIFY = 0x050
INTERRUPT_STATUS, INTERRUPT_ACK = 0x060, 0x064
STATUS = 0x070
QUEUE_DESC, QUEUE_DRIVER, QUEUE_DEVICE = 0x080, 0x090, 0x0A0
SHM_LENGTH, SHM_BASE = 0x0B0, 0x0B8
CONFIG_GENERATION = 0x0FC
CONFIG = 0x100

RING_FEATURES = VERSION_1 | RING_INDIRECT_DESC | RING_EVENT_IDX
_U32 = 0xFFFF_FFFF

UNITS_PER_CALL = 256
"""Units of work before others on the same thread get their turn; QEMU's VIRTQUEUE_MAX_SIZE is 1024."""


class Doorbells(Protocol):
    """What of an accelerator a transport needs (:class:`stratovirt.accel.protocol.Accelerator`)."""

    def add_ioeventfd(self, fd: int, address: int, size: int, value: int | None) -> None: ...


class _Setup:
    """A queue as the driver describes it before it enables it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.addresses = {QUEUE_DESC: 0, QUEUE_DRIVER: 0, QUEUE_DEVICE: 0}

    def set_half(self, register: int, value: int) -> None:
        """Write the low or, at 4 bytes behind, the high half of an address."""
        base, shift = register & ~0xF, 8 * (register & 0xF)
        self.addresses[base] = self.addresses[base] & ~(_U32 << shift) | value << shift

    @property
    def rings(self) -> Rings:
        return Rings(*self.addresses.values())

    def save(self) -> list[int]:
        return [self.size, *self.addresses.values()]

    def load(self, state: list[int]) -> None:
        self.size, *addresses = state
        self.addresses = dict(zip(self.addresses, addresses, strict=True))


class VirtioMmio:
    """One device in its window of registers; implements :class:`Transport` for the device.

    :param name: for logs.
    :raises OSError: no fds are left, or the host's kernel is too old.
    """

    state_version = 1

    def __init__(self, device: VirtioDevice, name: str, memory: GuestMemory, line: IrqLine) -> None:
        enable_full_barrier()
        self.device = device
        self.name = name
        self.lock = threading.Lock()
        self.interrupt = Interrupt(line)
        self.status = 0
        self.memory = memory
        self._accepted = 0
        self._generation = 0
        self._breaks = 0
        self._offered = device.features | RING_FEATURES
        self._live: list[Virtqueue | None] = [None] * len(device.queue_sizes)
        self._clear()
        self._readers, self._writers = self._make_readers(), self._make_writers()
        self.kicks = [Kick() for _ in device.queue_sizes]
        device.transport = self

    @property
    def offered(self) -> int:
        """Feature bits that a driver may accept."""
        return self._offered

    @property
    def accepted(self) -> int:
        """Feature bits that the driver has accepted."""
        return self._accepted

    # -- the device's side ---------------------------------------------------------------------------

    def queue(self, index: int) -> Virtqueue | None:
        """See :class:`Transport`."""
        queue = self._live[index]
        return queue if self.status & (DRIVER_OK | NEEDS_RESET) == DRIVER_OK else None

    def config_changed(self) -> None:
        """See :class:`Transport`."""
        self._generation = self._generation + 1 & _U32
        if self.status & DRIVER_OK:
            self.interrupt.signal(CONFIG_CHANGE)

    def ring(self, index: int) -> None:
        """See :class:`Transport`."""
        self.kicks[index].ring()

    # -- the machine's side --------------------------------------------------------------------------

    def connect(self, doorbells: Doorbells, address: int) -> None:
        """Let writes to this transport's QueueNotify ring the kicks without reaching the bus."""
        for index, kick in enumerate(self.kicks):
            doorbells.add_ioeventfd(kick.fd, address + QUEUE_NOTIFY, 4, index)

    def attach(self, reactor: Reactor) -> None:
        """Let ``reactor`` serve the device; kicks that nobody has obeyed are obeyed first."""
        for index, kick in enumerate(self.kicks):
            reactor.watch(kick.fd, partial(self._kicked, index))
        self.device.attached(reactor)
        for kick in self.kicks:
            kick.ring()

    def detach(self, reactor: Reactor) -> None:
        """Undo :meth:`attach`."""
        self.device.detached(reactor)
        for kick in self.kicks:
            reactor.unwatch(kick.fd)

    def reset(self) -> None:
        """To power-on state; waits for the unit of work in hand."""
        with self.lock:
            self._disable_all()
            self.device.reset()
            self.status = 0
            self._clear()
            self.interrupt.acknowledge(USED_BUFFER | CONFIG_CHANGE)

    def close(self) -> None:
        """Close the kicks and the device; nobody serves it any more."""
        self._disable_all()
        self._live = [None] * len(self._live)
        for kick in self.kicks:
            kick.close()
        self.device.close()

    def save(self) -> dict[str, Any]:
        """The transport's state as plain values; the device's own is apart."""
        return {
            "status": self.status,
            "interrupt": self.interrupt.status,
            "generation": self._generation,
            "selectors": [self._feature_page, self._driver_page, self._selected],
            "features": self._accepted,
            "setups": [setup.save() for setup in self._setups],
            "queues": [queue.save() if queue else None for queue in self._live],
        }

    def load(self, _version: int, state: dict[str, Any]) -> None:
        """Put in what :meth:`save` gave, after guest memory; the device's own state follows.

        :raises ValueError: a queue lies outside this machine's RAM.
        """
        self.status = state["status"]
        self._generation = state["generation"]
        self._feature_page, self._driver_page, self._selected = state["selectors"]
        self._accepted = state["features"]
        for index, saved in enumerate(state["setups"]):
            self._setups[index].load(saved)
        for index, saved in enumerate(state["queues"]):
            if saved is not None:
                self._live[index] = self._load_queue(index, saved)
        if self.status & DRIVER_OK:
            self.device.activate(self._accepted)
        if state["interrupt"]:
            self.interrupt.signal(state["interrupt"])

    def _load_queue(self, index: int, saved: dict[str, int]) -> Virtqueue:
        try:
            queue = self._make_queue(index)
        except BrokenQueue as error:
            raise ValueError(f"queue {index}: {error}") from error
        queue.load(saved)
        return queue

    # -- the device's thread -------------------------------------------------------------------------

    def drain(self) -> None:
        """Serve every chain that waits now, and none that comes meanwhile."""
        self.device.draining = True
        try:
            for index in range(len(self._live)):
                self._drain(index)
        finally:
            self.device.draining = False

    def _drain(self, index: int) -> None:
        for _ in range(self._backlog(index)):
            if not self._serve(index):
                break
        with self.lock:
            if queue := self.queue(index):
                queue.notify()

    def _backlog(self, index: int) -> int:
        with self.lock:
            queue = self.queue(index)
            try:
                return queue.backlog() if queue is not None else 0
            except BrokenQueue as error:
                self._break(index, str(error))
                return 0

    def _kicked(self, index: int) -> None:
        self.kicks[index].clear()
        self.serve(index)

    def serve(self, index: int) -> None:
        """See :class:`Transport`."""
        for _ in range(UNITS_PER_CALL):
            if not self._serve(index):
                return
        self.kicks[index].ring()

    def _serve(self, index: int) -> bool:
        """One unit of work; False when there is no more, and the driver has been told."""
        with self.lock:
            queue = self.queue(index)
            if queue is None:
                return False
            try:
                more = self.device.serve(queue)
            except BrokenQueue as error:
                self._break(index, str(error))
                return False
            if not more:
                queue.notify()
            return more

    def _break(self, index: int, problem: str) -> None:
        self._breaks += 1
        if worth_telling(self._breaks):
            told = "%s: queue %d: %s; the device needs a reset (%d so far)"
            log.warning(told, self.name, index, problem, self._breaks)
        self._disable_all()
        self.status |= NEEDS_RESET
        if self.status & DRIVER_OK:
            self.interrupt.signal(CONFIG_CHANGE)

    # -- registers: vCPU threads ---------------------------------------------------------------------

    def mmio_read(self, offset: int, size: int) -> int:
        """Registers are read 32 bits wide; the config space as the driver likes (§4.2.2.2)."""
        if offset >= CONFIG:
            at = offset - CONFIG
            return int.from_bytes(self.device.config()[at : at + size], "little")
        read = self._readers.get(offset)
        return read() if read is not None and size == 4 else 0

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """Writes to what is read-only or not there are dropped."""
        if offset >= CONFIG:
            self.device.write_config(offset - CONFIG, value.to_bytes(size, "little"))
        elif size == 4 and (write := self._writers.get(offset)):
            write(value)

    def _make_readers(self) -> dict[int, Callable[[], int]]:
        return {
            INTERRUPT_STATUS: lambda: self.interrupt.status,
            STATUS: lambda: self.status,
            MAGIC_VALUE: lambda: MAGIC,
            VERSION_REGISTER: lambda: VERSION,
            DEVICE_ID: lambda: self.device.device_id,
            VENDOR_ID: lambda: VENDOR,
            DEVICE_FEATURES: self._read_features,
            QUEUE_NUM_MAX: self._largest_size,
            QUEUE_READY: self._read_ready,
            CONFIG_GENERATION: lambda: self._generation,
            # There is no shared memory region.
            **{base + half: lambda: _U32 for base in (SHM_LENGTH, SHM_BASE) for half in (0, 4)},
        }

    def _read_features(self) -> int:
        return self._offered >> 32 * self._feature_page & _U32 if self._feature_page < 2 else 0

    def _read_ready(self) -> int:
        return int(self._selected < len(self._live) and self._live[self._selected] is not None)

    def _make_writers(self) -> dict[int, Callable[[int], None]]:
        halves = (QUEUE_DESC, QUEUE_DRIVER, QUEUE_DEVICE)
        return {
            INTERRUPT_ACK: self.interrupt.acknowledge,
            STATUS: self._write_status,
            DEVICE_FEATURES_SEL: partial(setattr, self, "_feature_page"),
            DRIVER_FEATURES_SEL: partial(setattr, self, "_driver_page"),
            DRIVER_FEATURES: self._write_features,
            QUEUE_SEL: partial(setattr, self, "_selected"),
            QUEUE_NUM: self._write_queue_size,
            QUEUE_READY: self._write_ready,
            QUEUE_NOTIFY: self._write_notify,
            **{base + half: partial(self._write_address, base + half) for base in halves for half in (0, 4)},
        }

    def _write_status(self, value: int) -> None:
        if value == 0:
            self.reset()
            return
        with self.lock:
            if value & FEATURES_OK and not self._features_fit():
                value &= ~FEATURES_OK
            was_there, self.status = self.status & DRIVER_OK, value & 0xFF | self.status & NEEDS_RESET
            if self.status & DRIVER_OK and not was_there:
                self.device.activate(self._accepted)
        for kick in self.kicks if self.status & DRIVER_OK else ():
            kick.ring()  # a driver may have filled a queue before it said that it is there

    def _features_fit(self) -> bool:
        """Has the driver taken only what was offered, and the modern interface (§3.1.1, §6.1)?"""
        return not self._accepted & ~self._offered and bool(self._accepted & VERSION_1)

    def _write_features(self, value: int) -> None:
        if self.status & FEATURES_OK or self._driver_page > 1:
            return
        shift = 32 * self._driver_page
        self._accepted = self._accepted & ~(_U32 << shift) | value << shift

    def _write_queue_size(self, value: int) -> None:
        if self._selected < len(self._setups) and 0 < value <= self._largest_size():
            self._setups[self._selected].size = value

    def _write_address(self, register: int, value: int) -> None:
        if self._selected < len(self._setups):
            self._setups[self._selected].set_half(register, value)

    def _write_ready(self, value: int) -> None:
        index = self._selected
        if index >= len(self._live):
            return
        with self.lock:
            self._disable(index)
            if value & 1:
                try:
                    self._live[index] = self._make_queue(index)
                except BrokenQueue as error:
                    self._break(index, str(error))

    def _write_notify(self, value: int) -> None:
        """A kick that no ioeventfd took: the machine has none, or the value is none of its queues'."""
        if value < len(self.kicks):
            self.kicks[value].ring()

    def _largest_size(self) -> int:
        sizes = self.device.queue_sizes
        return sizes[self._selected] if self._selected < len(sizes) else 0

    def _make_queue(self, index: int) -> Virtqueue:
        setup = self._setups[index]
        used = partial(self.interrupt.signal, USED_BUFFER)
        return Virtqueue(self.memory, index, setup.size, setup.rings, self._accepted, used)

    def _disable_all(self) -> None:
        for index in range(len(self._live)):
            self._disable(index)

    def _disable(self, index: int) -> None:
        queue, self._live[index] = self._live[index], None
        if queue is not None:
            queue.live = False

    def _clear(self) -> None:
        """What the driver has written, to its power-on values."""
        self._feature_page = self._driver_page = self._selected = 0
        self._accepted = 0
        self._setups = [_Setup(size) for size in self.device.queue_sizes]
