"""Platform: the machine's fixed addresses and interrupts, as its boot tables tell them to the guest.

The tables promise; the machine's devices keep the promise. The machine hands one Platform to the
tables and to the devices, so that a number is written once.
"""

from __future__ import annotations

from dataclasses import dataclass

# Power button bit of the event selector: ACPI_GED_PWR_DOWN_EVT in QEMU's hw/acpi/generic_event_device.h.
EVENT_POWER_BUTTON = 0x02
# Sleep type of S5 in \_S5, and what a guest then writes to the sleep control register to power off.
SLEEP_TYPE_S5 = 5
SLEEP_ENABLE = 1 << 5  # SLP_EN; the type is in bits 2 to 4 (ACPI 6.4 §4.8.3.7)
POWER_OFF_VALUE = SLEEP_TYPE_S5 << 2 | SLEEP_ENABLE


@dataclass(frozen=True)
class VirtioSlot:
    """A virtio-mmio transport.

    :param address: guest physical address of its registers.
    :param size: of its registers, in bytes.
    :param gsi: level-triggered, active high.
    """

    address: int
    size: int
    gsi: int


VIRTIO_BASE, VIRTIO_SIZE = 0xF010_0000, 0x200
# StratoVirt's 16 to 23, then what no fixed device has: 4 is the serial port's, 8 the RTC's, 12 the events'.
VIRTIO_GSIS = (16, 17, 18, 19, 20, 21, 22, 23, 5, 6, 7, 9, 10, 11, 14, 15)


def virtio_slots(count: int) -> tuple[VirtioSlot, ...]:
    """The first ``count`` transports, each with an interrupt of its own.

    :param count: at most ``len(VIRTIO_GSIS)``.
    """
    return tuple(
        VirtioSlot(VIRTIO_BASE + index * VIRTIO_SIZE, VIRTIO_SIZE, gsi)
        for index, gsi in enumerate(VIRTIO_GSIS[:count])
    )


@dataclass(frozen=True)
class Platform:
    """Addresses and interrupts of the microvm.

    :param local_apic: address of every CPU's LAPIC.
    :param io_apic: address of the IOAPIC; its 24 inputs are GSIs 0 to 23.
    :param timer_pin: IOAPIC input of the PIT's channel 0, as on PCs (MP table only).
    :param serial_port: first of the 16550's 8 ports.
    :param serial_gsi: edge-triggered, active high.
    :param rtc_port: index port of the CMOS clock; data is the next.
    :param rtc_gsi: edge-triggered, active high.
    :param sleep_control_port: 8 bits; a write of :data:`POWER_OFF_VALUE` powers off.
    :param sleep_status_port: 8 bits; reads 0 (no wake happened), writes are ignored.
    :param reset_port: 8 bits; a write of ``reset_value`` resets the machine.
    :param event_address: MMIO, 32 bits, read-only: the event selector of the generic event device. A
        read returns the pending events, :data:`EVENT_POWER_BUTTON`, and clears them all.
    :param event_gsi: level-triggered, active high: high while an event is pending, so that a button
        pressed before the guest listens is not lost. 12 is the PS/2 mouse's, which does not exist here.
    """

    local_apic: int = 0xFEE0_0000
    io_apic: int = 0xFEC0_0000
    timer_pin: int = 2
    serial_port: int = 0x3F8
    serial_gsi: int = 4
    rtc_port: int = 0x70
    rtc_gsi: int = 8
    sleep_control_port: int = 0x600
    sleep_status_port: int = 0x601
    reset_port: int = 0x602
    reset_value: int = 0x01
    event_address: int = 0xFEA0_0000
    event_gsi: int = 12
