"""A vCPU's and a VM's whole state can be taken out, put into a fresh VM, and goes on there."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from stratovirt.accel.choose import EMULATING_MODULE
from stratovirt.accel.kvm import msrs
from stratovirt.accel.kvm.vcpu import LOAD_ORDER, SAVE_ORDER
from stratovirt.accel.protocol import RunEnd
from stratovirt.errors import AcceleratorError
from stratovirt.memory import GuestMemory
from tests.accel.guests import (
    EOI,
    HALT_FOREVER,
    IRETQ,
    done,
    enable_lapic,
    forever,
    load_idt,
    mask_pics,
    mov_eax,
    out_al,
    out_byte,
    route_ioapic,
    store32,
)
from tests.accel.kvm.conftest import Machine

MSR_LSTAR = 0xC000_0082
LSTAR = 0x1234_5678
LVT_TIMER = 0xFEE0_0320
SETUP = (
    b"\xb9" + struct.pack("<I", MSR_LSTAR) + mov_eax(LSTAR) + b"\x31\xd2\x0f\x30"  # wrmsr
    + mov_eax(0x4000) + b"\x0f\x23\xc0"  # mov dr0, rax
    + b"\x0f\x22\xd0"  # mov cr2, rax
    + enable_lapic() + store32(LVT_TIMER, 0x1_0055)
)  # fmt: skip
XSTATE_BV, XMM0, SSE = 512, 160, 1 << 1
CONTROLLERS = {"pic_master", "pic_slave", "ioapic", "pit2"}


def msr_values(state: dict[str, bytes]) -> dict[int, int]:
    return dict(struct.iter_unpack("<I4xQ", state["msrs"]))


def move(old: Machine, new: Machine) -> None:
    """All state of ``old`` into ``new``, while time stands still in both."""
    old.accelerator.freeze()
    new.accelerator.freeze()
    new.accelerator.load(old.accelerator.state_version, old.accelerator.save())
    copy_ram(old.memory, new.memory)
    new.accelerator.thaw()
    old.accelerator.thaw()


def copy_ram(old: GuestMemory, new: GuestMemory) -> None:
    for region in old.regions:
        new.write(region.gpa, old.read(region.gpa, region.size))


@pytest.fixture
def prepared(machine: Machine) -> Machine:
    """A machine whose guest has touched every kind of register, and left."""
    assert machine.run(SETUP + done()) is RunEnd.KICKED
    return machine


def test_guest_goes_on_in_a_fresh_vm(new_machine: Callable[..., Machine]) -> None:
    count = out_al(0x80) + b"\xff\xc0"  # out 0x80, al; inc eax
    old, new = new_machine(), new_machine()
    old.bus.reactions[0x80] = lambda value: old.kick() if value == 3 else None
    old.run(mov_eax(0) + forever(count))
    assert old.bus.outs(0x80) == [0, 1, 2, 3]
    move(old, new)
    new.bus.reactions[0x80] = lambda value: new.kick() if value == 6 else None
    assert new.thread.run() is RunEnd.KICKED
    assert new.bus.outs(0x80) == [4, 5, 6]


def test_sleeping_guest_is_woken_by_its_restored_interrupt_controllers(
    new_machine: Callable[..., Machine],
) -> None:
    """HLT, the local APIC, the IOAPIC's routes and the IDT all came over."""
    handler = {0x35: out_byte(0x81, 1) + store32(EOI, 0) + IRETQ}
    guest = load_idt() + mask_pics() + enable_lapic() + route_ioapic(18, 0x35) + out_byte(0x80, 1)
    old, new = new_machine(), new_machine()
    old.start(guest + HALT_FOREVER, handler)
    with old.running():
        old.bus.wait_for(lambda: old.bus.outs(0x80) == [1])
    move(old, new)
    with new.running():
        new.accelerator.irq_line(18).set_level(True)
        new.bus.wait_for(lambda: new.bus.outs(0x81) == [1])
    assert new.bus.outs(0x80) == [], "it slept on; it did not start anew"


@pytest.mark.parametrize("group", [name for name in SAVE_ORDER if name != "msrs"])
def test_group_is_the_same_after_a_round_trip(
    prepared: Machine, new_machine: Callable[..., Machine], group: str
) -> None:
    state = prepared.vcpu.save()
    fresh = new_machine()
    fresh.vcpu.load(state)
    assert fresh.vcpu.save()[group] == state[group]


@pytest.mark.parametrize("group", ["regs", "sregs", "debugregs", "lapic", "msrs"])
def test_group_holds_what_the_guest_did(
    prepared: Machine, new_machine: Callable[..., Machine], group: str
) -> None:
    """The round trip above would also pass if a group held nothing."""
    assert prepared.vcpu.save()[group] != new_machine().vcpu.save()[group]


def test_msrs_are_the_same_after_a_round_trip(prepared: Machine, new_machine: Callable[..., Machine]) -> None:
    old = msr_values(prepared.vcpu.save())
    fresh = new_machine()
    fresh.vcpu.load(prepared.vcpu.save())
    new = msr_values(fresh.vcpu.save())
    assert new[MSR_LSTAR] == LSTAR
    assert {i: v for i, v in new.items() if i != msrs.TSC} == {i: v for i, v in old.items() if i != msrs.TSC}


def test_tsc_goes_on_from_the_saved_value(new_machine: Callable[..., Machine]) -> None:
    if EMULATING_MODULE.exists():
        pytest.skip("kvm_pvm's guests see the host's TSC, whatever is written")
    machine = new_machine(vcpus=2)
    saved = 10**14
    for vcpu in machine.accelerator.vcpus:
        state = vcpu.save()
        values = msr_values(state) | {msrs.TSC: saved}
        vcpu.load(state | {"msrs": b"".join(msrs.ENTRY.pack(*item) for item in values.items())})
    first, second = (msrs.read(vcpu.fd, msrs.TSC) for vcpu in machine.accelerator.vcpus)
    assert saved <= first < second < saved + 10**12, "one clock for both"


def test_vector_registers_survive(machine: Machine, new_machine: Callable[..., Machine]) -> None:
    state = machine.vcpu.save()
    area = bytearray(state["xsave"])
    area[XMM0 : XMM0 + 16] = bytes(range(16))
    area[XSTATE_BV] |= SSE
    machine.vcpu.load(state | {"xsave": bytes(area)})
    fresh = new_machine()
    fresh.vcpu.load(machine.vcpu.save())
    assert fresh.vcpu.save()["xsave"][XMM0 : XMM0 + 16] == bytes(range(16))


@pytest.mark.parametrize("part", sorted(CONTROLLERS - {"pit2"}))
def test_controller_is_the_same_after_a_round_trip(new_machine: Callable[..., Machine], part: str) -> None:
    old, new = new_machine(), new_machine()
    old.run(out_byte(0x21, 0xF5) + out_byte(0xA1, 0x5F) + route_ioapic(9, 0x66) + done())
    state = old.accelerator.save_vm()
    assert state[part] != new.accelerator.save_vm()[part]
    new.accelerator.load_vm(state)
    assert new.accelerator.save_vm()[part] == state[part]


def test_timer_chip_keeps_its_programming(new_machine: Callable[..., Machine]) -> None:
    old, new = new_machine(), new_machine()
    old.run(out_byte(0x43, 0x34) + out_byte(0x40, 0xA9) + out_byte(0x40, 0x04) + done())
    state = old.accelerator.save_vm()
    new.accelerator.load_vm(state)
    channel_0 = slice(0, 4)  # struct kvm_pit_channel_state starts with the count
    assert new.accelerator.save_vm()["pit2"][channel_0] == struct.pack("<I", 0x04A9)


def test_clock_goes_on_from_where_it_was(new_machine: Callable[..., Machine]) -> None:
    old, new = new_machine(), new_machine()
    state = old.accelerator.save_vm() | {"clock": (10**15).to_bytes(8, "little")}
    new.accelerator.load_vm(state)
    clock = int.from_bytes(new.accelerator.save_vm()["clock"], "little")
    assert 10**15 <= clock < 10**15 + 10**12


@pytest.mark.parametrize("group", LOAD_ORDER)
def test_missing_group_is_named(machine: Machine, group: str) -> None:
    state = machine.vcpu.save()
    del state[group]
    with pytest.raises(AcceleratorError, match=f"vCPU 0 lacks {group}"):
        machine.vcpu.load(state)


@pytest.mark.parametrize("group", LOAD_ORDER)
def test_cut_group_is_named(machine: Machine, group: str) -> None:
    state = machine.vcpu.save()
    with pytest.raises(AcceleratorError, match=f"saved {group} ha"):
        machine.vcpu.load(state | {group: state[group][:-1]})


def test_state_that_the_kernel_refuses_is_named(machine: Machine) -> None:
    state = machine.vcpu.save()
    with pytest.raises(AcceleratorError, match="saved mp_state is refused"):
        machine.vcpu.load(state | {"mp_state": struct.pack("<I", 999)})
    with pytest.raises(AcceleratorError, match=r"MSR 0x.* cannot be set"):
        machine.vcpu.load(state | {"msrs": struct.pack("<I4xQ", 0xDEAD_BEEF, 1)})


def test_missing_part_of_the_vm_is_named(machine: Machine) -> None:
    state = machine.accelerator.save_vm()
    del state["ioapic"]
    with pytest.raises(AcceleratorError, match="the VM lacks ioapic"):
        machine.accelerator.load_vm(state)


def test_another_number_of_vcpus_is_named(new_machine: Callable[..., Machine]) -> None:
    old, new = new_machine(vcpus=2), new_machine()
    with pytest.raises(AcceleratorError, match="saved with 2 vCPUs, not 1"):
        move(old, new)


def test_two_vcpus_move_together(new_machine: Callable[..., Machine]) -> None:
    old, new = new_machine(vcpus=2), new_machine(vcpus=2)
    old.run(out_byte(0x80, 1) + done())
    move(old, new)
    saved = [vcpu.save()["mp_state"] for vcpu in new.accelerator.vcpus]
    assert saved == [vcpu.save()["mp_state"] for vcpu in old.accelerator.vcpus]
    assert saved[0] != saved[1], "the second waits for SIPI"
