"""Reset, power-off and the power button: the guest's requests reach the switch, and only those."""

import pytest

from stratovirt.devices.power import I8042, EventDevice, ResetRegister, SleepRegisters
from tests.device.fakes import FakeIrq, FakeSwitch


def test_the_keyboard_controllers_reset_pulse_resets() -> None:
    switch = FakeSwitch()
    I8042(switch).pio_write(I8042.COMMAND, 1, 0xFE)
    assert switch.asked == ["reset"]


def test_the_keyboard_controller_passes_its_self_test_and_keeps_its_command_byte() -> None:
    controller = I8042(FakeSwitch())
    controller.pio_write(I8042.COMMAND, 1, 0xAA)
    assert controller.pio_read(I8042.COMMAND, 1) & 1
    assert controller.pio_read(I8042.DATA, 1) == 0x55
    controller.pio_write(I8042.COMMAND, 1, 0x60)
    controller.pio_write(I8042.DATA, 1, 0x47)
    controller.pio_write(I8042.COMMAND, 1, 0x20)
    assert controller.pio_read(I8042.DATA, 1) == 0x47
    assert not controller.pio_read(I8042.COMMAND, 1) & 1


def test_entering_s5_powers_off() -> None:
    switch = FakeSwitch()
    SleepRegisters(switch).pio_write(SleepRegisters.CONTROL, 1, 0x20 | 5 << 2)
    assert switch.asked == ["power off"]


@pytest.mark.parametrize(("offset", "value"), [(0, 5 << 2), (0, 0x20 | 3 << 2), (1, 0x20 | 5 << 2)])
def test_nothing_else_written_to_the_sleep_registers_powers_off(offset: int, value: int) -> None:
    switch = FakeSwitch()
    SleepRegisters(switch).pio_write(offset, 1, value)
    assert switch.asked == []


def test_only_the_reset_value_resets() -> None:
    switch = FakeSwitch()
    register = ResetRegister(switch, reset_value=1)
    register.pio_write(0, 1, 2)
    assert switch.asked == []
    register.pio_write(0, 1, 1)
    assert switch.asked == ["reset"]


def test_the_power_button_interrupts_until_its_event_is_read() -> None:
    irq = FakeIrq()
    device = EventDevice(irq, power_button=2)
    device.press_power_button()
    assert irq.level
    assert device.mmio_read(0, 4) == 2
    assert not irq.level
    assert device.mmio_read(0, 4) == 0


def test_a_restored_keyboard_controller_finishes_the_command_it_was_in() -> None:
    old, new = I8042(FakeSwitch()), I8042(FakeSwitch())
    old.pio_write(I8042.COMMAND, 1, I8042.WRITE_COMMAND_BYTE)
    new.load(old.state_version, old.save())
    new.pio_write(I8042.DATA, 1, 0x47)
    new.pio_write(I8042.COMMAND, 1, I8042.READ_COMMAND_BYTE)
    assert new.pio_read(I8042.DATA, 1) == 0x47


def test_a_power_button_that_was_pressed_is_heard_after_a_restore() -> None:
    old, irq = EventDevice(FakeIrq(), 2), FakeIrq()
    old.press_power_button()
    new = EventDevice(irq, 2)
    new.load(old.state_version, old.save())
    assert irq.level
    assert new.mmio_read(0, 4) == 2
    assert not irq.level
