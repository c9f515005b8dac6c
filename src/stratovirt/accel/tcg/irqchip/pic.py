"""The pair of 8259A interrupt controllers.

The law: a controller asks for attention only after a complete initialization sequence; before that its mask
and vectors are undefined, and a guest that ignores it (hardware-reduced ACPI) must not be interrupted by it.

Source: Intel 8259A data sheet (231468), "Programming the 8259A": ICW1–ICW4, OCW1–OCW3; ELCR from the 82371SB
(PIIX3) data sheet, section 2.5.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from stratovirt.vmstate import load_fields, save_fields

CASCADE = 2
"""Input of the master that the slave's request drives."""

ELCR_WRITABLE = (0xF8, 0xDE)
"""Master and slave: timer, keyboard, cascade, RTC and FPU inputs are always edge-triggered."""

NONE = -1


class Expect(enum.Enum):
    """What the next write to the odd port is."""

    ICW1 = "nothing yet: never initialized"
    ICW2 = "vector base"
    ICW3 = "cascade"
    ICW4 = "mode"
    OCW1 = "interrupt mask"


_FIELDS = (
    *("_lines", "_edges", "_mask", "_in_service", "_highest", "_elcr", "_base", "_auto_eoi"),
    *("_rotate_on_auto_eoi", "_special_mask", "_special_fully_nested", "_read_in_service", "_poll"),
    *("_wants_icw4", "_single"),
)


class Pic8259:
    """One controller.

    :param slave: whose request is this one's input :data:`CASCADE`; None for the slave itself.
    """

    def __init__(self, elcr_writable: int, slave: Pic8259 | None = None) -> None:
        self._elcr_writable = elcr_writable
        self._slave = slave
        self._lines = 0
        self._auto_eoi = self._rotate_on_auto_eoi = False
        self._read_in_service = self._poll = False
        self.reset()

    def reset(self) -> None:
        """Power-on state. The levels of the lines are not ours to change."""
        self._elcr = 0
        self._base = 0
        self._initialize(0)
        self._expect = Expect.ICW1

    def save(self) -> dict[str, Any]:
        """State as plain values, the levels of the lines among them."""
        return save_fields(self, _FIELDS) | {"expect": self._expect.name}

    def load(self, state: dict[str, Any]) -> None:
        """Put in what :meth:`save` gave."""
        load_fields(self, _FIELDS, state)
        self._expect = Expect[state["expect"]]

    def set_line(self, irq: int, level: bool) -> None:
        """Drive input ``irq``. An edge is latched until acknowledged, a level is not."""
        bit = 1 << irq
        rising = level and not self._lines & bit
        self._lines = self._lines | bit if level else self._lines & ~bit
        if rising:
            self._edges |= bit

    def request(self) -> int:
        """The input with the highest priority that may interrupt now, or -1 ("Interrupt Sequence")."""
        if self._expect is not Expect.OCW1:
            return NONE
        waiting = self._requests() & ~self._mask
        blocking = self._in_service
        if self._special_mask:
            blocking &= ~self._mask
        if self._special_fully_nested and self._slave is not None:
            blocking &= ~(1 << CASCADE)
        first = self._rank(waiting)
        return (first + self._highest) & 7 if first < self._rank(blocking) else NONE

    def acknowledge(self) -> int:
        """Answer INTA with a vector; the cascaded slave answers for its inputs. Only under a request.

        Request and acknowledgement are one step here, so none goes away in between: no spurious input 7.
        """
        irq = self.request()
        self._take(irq)
        if irq == CASCADE and self._slave is not None:
            return self._slave.acknowledge()
        return self._base | irq

    def read(self, odd: bool) -> int:
        """The even port: poll word, ISR or IRR as OCW3 chose; the odd port: the mask."""
        if self._poll:
            self._poll = False
            return self._read_poll_word()
        if odd:
            return self._mask
        return self._in_service if self._read_in_service else self._requests()

    def write(self, odd: bool, value: int) -> None:
        """ICW1, OCW2 and OCW3 go to the even port, the rest to the odd one."""
        if odd:
            self._write_odd(value)
        elif value & 0x10:
            self._initialize(value)
        elif value & 0x08:
            self._write_ocw3(value)
        else:
            self._write_ocw2(value)

    def read_elcr(self) -> int:
        """Bit n set: input n is level-triggered."""
        return self._elcr

    def write_elcr(self, value: int) -> None:
        """Choose level (1) or edge (0) for each input that may be either."""
        self._elcr = value & self._elcr_writable

    def _requests(self) -> int:
        """IRR. The slave's request is a level, whatever the triggering of the master."""
        requests = self._edges & ~self._elcr | self._lines & self._elcr
        if self._slave is None:
            return requests
        cascade = 1 << CASCADE
        return requests | cascade if self._slave.request() != NONE else requests & ~cascade

    def _rank(self, inputs: int) -> int:
        """0 for the input that has the highest priority just now … 7; 8 if there is none."""
        rotated = (inputs >> self._highest | inputs << (8 - self._highest)) & 0xFF
        return (rotated & -rotated).bit_length() - 1 if rotated else 8

    def _take(self, irq: int) -> None:
        self._edges &= ~(1 << irq)
        if not self._auto_eoi:
            self._in_service |= 1 << irq
        elif self._rotate_on_auto_eoi:
            self._highest = irq + 1 & 7

    def _read_poll_word(self) -> int:
        irq = self.request()
        if irq == NONE:
            return 0
        self._take(irq)
        return 0x80 | irq

    def _initialize(self, icw1: int) -> None:
        """ICW1: all but the trigger modes and the vector base starts anew."""
        self._edges = self._mask = self._in_service = 0
        self._highest = 0
        self._auto_eoi = self._rotate_on_auto_eoi = False
        self._special_mask = self._special_fully_nested = False
        self._read_in_service = self._poll = False
        self._wants_icw4 = bool(icw1 & 1)
        self._single = bool(icw1 & 2)
        self._expect = Expect.ICW2

    def _write_odd(self, value: int) -> None:
        if self._expect is Expect.ICW2:
            self._base = value & 0xF8
            self._expect = self._after_icw3() if self._single else Expect.ICW3
        elif self._expect is Expect.ICW3:
            self._expect = self._after_icw3()  # the cascade is wired, not programmed
        elif self._expect is Expect.ICW4:
            self._auto_eoi = bool(value & 2)
            self._special_fully_nested = bool(value & 0x10)
            self._expect = Expect.OCW1
        else:
            self._mask = value & 0xFF

    def _after_icw3(self) -> Expect:
        return Expect.ICW4 if self._wants_icw4 else Expect.OCW1

    def _write_ocw2(self, value: int) -> None:
        """OCW2: rotate (bit 7), specific (bit 6), end of interrupt (bit 5)."""
        rotate, specific, end = value & 0x80, value & 0x40, value & 0x20
        irq = value & 7 if specific else (self._rank(self._in_service) + self._highest) & 7
        if end:
            if not specific and not self._in_service:
                return
            self._in_service &= ~(1 << irq)
        elif not specific:
            self._rotate_on_auto_eoi = bool(rotate)
            return
        if rotate:
            self._highest = irq + 1 & 7

    def _write_ocw3(self, value: int) -> None:
        """OCW3: special mask mode, poll, choice of the register that reads."""
        if value & 0x40:
            self._special_mask = bool(value & 0x20)
        self._poll = bool(value & 4)
        if value & 2:
            self._read_in_service = bool(value & 1)


class PicPair:
    """Master and slave, and the INTR output they share.

    :param intr: told the level of INTR after each change of it.
    """

    def __init__(self, intr: Callable[[bool], None]) -> None:
        self._slave = Pic8259(ELCR_WRITABLE[1])
        self._master = Pic8259(ELCR_WRITABLE[0], self._slave)
        self._intr = intr
        self._level = False

    def reset(self) -> None:
        """Both controllers to their power-on state."""
        self._slave.reset()
        self._master.reset()
        self._update()

    def save(self) -> dict[str, Any]:
        """State as plain values."""
        return {"level": self._level, "master": self._master.save(), "slave": self._slave.save()}

    def load(self, state: dict[str, Any]) -> None:
        """Put in what :meth:`save` gave; who listens to INTR has saved its level too."""
        self._level = state["level"]
        self._master.load(state["master"])
        self._slave.load(state["slave"])

    def set_line(self, irq: int, level: bool) -> None:
        """Drive input ``irq``, 0–15."""
        (self._slave if irq & 8 else self._master).set_line(irq & 7, level)
        self._update()

    def acknowledge(self) -> int:
        """The vector to deliver. Only while INTR is high."""
        vector = self._master.acknowledge()
        self._update()
        return vector

    def read(self, port: int) -> int:
        """Ports 0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1."""
        if port in (0x4D0, 0x4D1):
            return self._behind(port & 1).read_elcr()
        value = self._behind(port >> 7 & 1).read(bool(port & 1))
        self._update()
        return value

    def write(self, port: int, value: int) -> None:
        """The same ports."""
        if port in (0x4D0, 0x4D1):
            self._behind(port & 1).write_elcr(value)
        else:
            self._behind(port >> 7 & 1).write(bool(port & 1), value)
        self._update()

    def _behind(self, slave: int) -> Pic8259:
        return self._slave if slave else self._master

    def _update(self) -> None:
        level = self._master.request() != NONE
        if level != self._level:
            self._level = level
            self._intr(level)
