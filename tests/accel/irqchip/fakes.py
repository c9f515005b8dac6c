"""Fakes for what surrounds the chip, and a bench that speaks to it as a guest would."""

from __future__ import annotations

from stratovirt.accel.tcg.irqchip import IrqChip

EOI = 0xB0
SPURIOUS_VECTOR = 0xF0
COMMAND_LOW, COMMAND_HIGH = 0x300, 0x310
LVT_TIMER, LVT_LINT0 = 0x320, 0x350

PIC_BASE = 0x30
PIC_BASE_SLAVE = 0x38


class FakeClock:
    """Guest time that moves when told."""

    tsc_hz = 2_500_000_000

    def __init__(self) -> None:
        self.now = 1_000_000_007

    def now_ns(self) -> int:
        return self.now

    def tsc(self) -> int:
        return self.now * self.tsc_hz // 1_000_000_000


class FakeSignals:
    """An engine that notes what it is asked."""

    def __init__(self) -> None:
        self.interrupted: list[int] = []
        self.inits: list[int] = []
        self.startups: list[tuple[int, int]] = []
        self.nmis: list[int] = []
        self.deadline_changes = 0

    def interrupt(self, cpu: int) -> None:
        self.interrupted.append(cpu)

    def init(self, cpu: int) -> None:
        self.inits.append(cpu)

    def startup(self, cpu: int, vector: int) -> None:
        self.startups.append((cpu, vector))

    def nmi(self, cpu: int) -> None:
        self.nmis.append(cpu)

    def deadline_changed(self) -> None:
        self.deadline_changes += 1


class Bench:
    """A chip whose local APICs are enabled by software, and the guest's side of it."""

    def __init__(self, vcpus: int = 1) -> None:
        self.clock = FakeClock()
        self.signals = FakeSignals()
        self.chip = IrqChip(range(vcpus), self.clock, self.signals)
        for cpu in range(vcpus):
            self.write(SPURIOUS_VECTOR, 0x1FF, cpu)

    def read(self, offset: int, cpu: int = 0) -> int:
        return self.chip.lapic_read(cpu, offset)

    def write(self, offset: int, value: int, cpu: int = 0) -> None:
        self.chip.lapic_write(cpu, offset, value)

    def end_of_interrupt(self, cpu: int = 0) -> None:
        self.write(EOI, 0, cpu)

    def send_ipi(self, command: int, destination: int = 0, cpu: int = 0) -> None:
        self.write(COMMAND_HIGH, destination << 24, cpu)
        self.write(COMMAND_LOW, command, cpu)

    def taken(self, cpu: int = 0) -> list[int]:
        """Take and end everything that is deliverable."""
        vectors = []
        while self.chip.pending(cpu):
            vectors.append(self.chip.acknowledge(cpu))
            self.end_of_interrupt(cpu)
        return vectors

    def bits(self, base: int, cpu: int = 0) -> set[int]:
        """Vectors set in the 256-bit register at ``base``."""
        words = [self.read(base + 16 * word, cpu) for word in range(8)]
        return {32 * word + bit for word in range(8) for bit in range(32) if words[word] >> bit & 1}

    def redirect(self, pin: int, entry: int) -> None:
        self.write_ioapic(0x11 + 2 * pin, entry >> 32)
        self.write_ioapic(0x10 + 2 * pin, entry & 0xFFFF_FFFF)

    def entry(self, pin: int) -> int:
        return self.read_ioapic(0x10 + 2 * pin) | self.read_ioapic(0x11 + 2 * pin) << 32

    def read_ioapic(self, index: int) -> int:
        self.chip.ioapic_write(0x00, index)
        return self.chip.ioapic_read(0x10)

    def write_ioapic(self, index: int, value: int) -> None:
        self.chip.ioapic_write(0x00, index)
        self.chip.ioapic_write(0x10, value)

    def ports(self, *writes: tuple[int, int]) -> None:
        for port, value in writes:
            self.chip.port_write(port, value)

    def initialize_pic(self, icw4: int = 0x01) -> None:
        self.ports((0x20, 0x11), (0x21, PIC_BASE), (0x21, 0x04), (0x21, icw4))
        self.ports((0xA0, 0x11), (0xA1, PIC_BASE_SLAVE), (0xA1, 0x02), (0xA1, icw4))

    def pulse(self, gsi: int) -> None:
        self.chip.line(gsi).set_level(True)
        self.chip.line(gsi).set_level(False)

    def expiries(self, until: int) -> list[int]:
        """Let time pass until ``until``, stopping at each deadline; the instants at which it stopped."""
        stops = []
        while (deadline := self.chip.next_deadline()) is not None and deadline <= until:
            self.clock.now = deadline
            self.chip.expire()
            stops.append(deadline)
            following = self.chip.next_deadline()
            assert following is None or following > deadline, "a timer that is due for ever"
        self.clock.now = until
        return stops
