"""The microvm board: RAM, an accelerator, and the fixed devices of :class:`stratovirt.boot.Platform`.

The law: every address and interrupt number comes from the one Platform that the boot tables were made of.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from stratovirt.accel import choose
from stratovirt.accel.protocol import Accelerator, VcpuThread
from stratovirt.boot.plan import BootPlan
from stratovirt.boot.platform import EVENT_POWER_BUTTON, VirtioSlot
from stratovirt.devices.power import I8042, EventDevice, ResetRegister, SleepRegisters
from stratovirt.devices.rtc import Rtc
from stratovirt.devices.virtio.device import VirtioDevice
from stratovirt.devices.virtio.mmio import VirtioMmio
from stratovirt.machine.bus import MachineBus
from stratovirt.machine.power import PowerLine
from stratovirt.memory import GuestMemory
from stratovirt.native.line import Line
from stratovirt.native.uart import REGISTERS, Uart
from stratovirt.vmstate import Saved

log = logging.getLogger(__name__)

I8042_PORT, I8042_PORTS = 0x60, 5
BOOT_MARKS = {1: "kernel started", 2: "userspace reached"}
EVENT_DEVICE_SIZE = 4


class Console(Protocol):
    """A serial line, and who tells the UART when input or room has come."""

    line: Line
    on_input: Callable[[], None]
    on_room: Callable[[], None]


class PlatformDevice(Saved, Protocol):
    """A device with state that a reset of the machine clears and a snapshot keeps."""

    def reset(self) -> None: ...


class Microvm:
    """A board without a program; :meth:`boot` or a snapshot gives it one, and ``threads`` run it.

    Planning and building take a tenth of a second each, or more: both belong in a thread.

    :param plan: what is booted; made beforehand, so that what it refuses is refused without guest memory.
    :param virtio: one device for each slot of the plan, in its order.
    :param allocate: makes RAM of so many bytes.
    :raises ConfigError: the accelerator cannot be had.
    :ivar devices: those of the platform, by name.
    :ivar transports: the virtio devices', slot by slot.
    """

    def __init__(
        self,
        choice: choose.Choice,
        plan: BootPlan,
        virtio: Sequence[VirtioDevice] = (),
        allocate: Callable[[int], GuestMemory] = GuestMemory.allocate,
    ) -> None:
        self.plan = plan
        self.power = PowerLine()
        self.bus = MachineBus()
        self._started = time.monotonic()
        self.memory = allocate(plan.request.memory_size)
        try:
            self.accelerator: Accelerator = choose.create(
                choice,
                self.memory,
                plan.request.cpus,
                self.bus,
                plan.request.topology,
                plan.request.features,
            )
        except BaseException:
            self.memory.close()
            raise
        self.memory.written = self.accelerator.memory_written
        self.memory.native_written = self.accelerator.native_written
        self.threads: list[VcpuThread] = list(self.accelerator.threads)
        self.transports: list[VirtioMmio] = []
        try:
            self.devices: dict[str, PlatformDevice] = self._add_devices()
            for slot, device in zip(plan.request.slots, virtio, strict=True):
                self._add_virtio(slot, device)
        except BaseException:
            self.close()
            raise

    def add_console(self, console: Console) -> None:
        """The first serial port, at the end of ``console``'s line."""
        platform = self.plan.request.platform
        serial = Uart(console.line, self.accelerator.native_irq(platform.serial_gsi), self._mark)
        console.on_input = serial.input_ready
        console.on_room = serial.output_ready
        self.bus.claim_ports(platform.serial_port, REGISTERS, serial)
        self.accelerator.add_native_ports(platform.serial_port, REGISTERS, serial.native)
        self.devices["serial"] = serial

    def boot(self) -> None:
        """Load the kernel; vCPU 0 is at its entry.

        :raises ImageError: a file changed since it was planned with.
        """
        self.accelerator.start(self.plan.load(self.memory))

    def reset(self) -> None:
        """Power-on state with empty RAM and the kernel loaded anew; only while no vCPU runs.

        :raises ImageError: its files are not what they were; nothing has been changed.
        """
        self.plan.renew()
        self.accelerator.reset()
        for device in (*self.devices.values(), *self.transports):
            device.reset()
        self.memory.clear()
        self.boot()

    def press_power_button(self) -> bool:
        """Press the ACPI power button; False when the guest was booted without ACPI."""
        if not self.plan.acpi:
            return False
        self._events.press_power_button()
        return True

    def close(self) -> None:
        """Give everything back; no vCPU may run."""
        self.accelerator.close()
        for transport in self.transports:
            transport.close()
        self.memory.close()

    def _add_devices(self) -> dict[str, PlatformDevice]:
        platform = self.plan.request.platform
        rtc, i8042 = Rtc(), I8042(self.power)
        self._events = EventDevice(self.accelerator.irq_line(platform.event_gsi), EVENT_POWER_BUTTON)
        sleep, reset = SleepRegisters(self.power), ResetRegister(self.power, platform.reset_value)

        self.bus.claim_ports(platform.rtc_port, 2, rtc)
        self.bus.claim_ports(I8042_PORT, I8042_PORTS, i8042)
        self.bus.claim_ports(platform.sleep_control_port, 2, sleep)
        self.bus.claim_ports(platform.reset_port, 1, reset)
        self.bus.claim_mmio(platform.event_address, EVENT_DEVICE_SIZE, self._events)
        return {"rtc": rtc, "i8042": i8042, "events": self._events}

    def _add_virtio(self, slot: VirtioSlot, device: VirtioDevice) -> None:
        name = f"virtio{len(self.transports)}"
        transport = VirtioMmio(device, name, self.memory, self.accelerator.irq_line(slot.gsi))
        self.transports.append(transport)
        self.bus.claim_mmio(slot.address, slot.size, transport)
        transport.connect(self.accelerator, slot.address)

    def _mark(self, value: int) -> None:
        if value in BOOT_MARKS:
            elapsed = (time.monotonic() - self._started) * 1000
            log.info("boot mark %d (%s) after %.1f ms", value, BOOT_MARKS[value], elapsed)
