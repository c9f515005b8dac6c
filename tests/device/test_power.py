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
