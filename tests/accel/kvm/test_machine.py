"""The accelerator as a whole: memory and its dirty log, reset, and giving everything back."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from stratovirt.accel.kvm.accelerator import KvmAccelerator
from stratovirt.accel.kvm.system import REQUIRED_CAPABILITIES, KvmSystem
from stratovirt.accel.protocol import Accelerator, RunEnd
from stratovirt.errors import AcceleratorUnavailable
from stratovirt.memory import FOUR_GIB, HOLE_START
from tests.accel.guests import (
    AP_ENTRY,
    DATA,
    HALT_FOREVER,
    PDPT,
    boot,
    done,
    enable_lapic,
    load32,
    mov_eax,
    out_al,
    out_byte,
    route_ioapic,
    start_ap,
    store32,
)
from tests.accel.kvm.conftest import Machine

PAGE = 4096
WRITTEN = (0x30_0000, 0x30_5000, 0x40_0000)
UNTOUCHED = 0x60_0000  # a page that is only read counts as written: KVM maps it writable at once


def dirty_pages(machine: Machine) -> set[int]:
    [(region, bitmap)] = machine.accelerator.vm.take_dirty_log()
    assert len(bitmap) == region.size // PAGE // 8
    return {page * PAGE for page in range(region.size // PAGE) if bitmap[page // 8] >> page % 8 & 1}


def writes(value: int) -> bytes:
    return b"".join(store32(address, value) for address in WRITTEN)


def test_accelerator_keeps_the_protocol(machine: Machine) -> None:
    accelerator: Accelerator = machine.accelerator  # the type checker's half of this test
    assert accelerator.name == "kvm"


def test_guest_and_host_see_the_same_memory(machine: Machine) -> None:
    machine.memory.write(DATA, struct.pack("<I", 0xCAFE_F00D))
    machine.run(load32(DATA) + store32(DATA + 4, 0x600D_F00D) + done())
    assert machine.vcpu.registers()["rax"] == 0xCAFE_F00D
    assert machine.memory.read(DATA + 4, 4) == struct.pack("<I", 0x600D_F00D)


def test_memory_above_the_device_hole_is_there(new_machine: Callable[..., Machine]) -> None:
    machine = new_machine(ram=HOLE_START + (2 << 20))
    target = FOUR_GIB + 0x1000
    store = b"\x48\xbb" + struct.pack("<Q", target) + b"\xc7\x03" + struct.pack("<I", 0x4242)
    entry = boot(machine.memory, store + done())
    page_table = 0x9000  # one more directory, for the fifth gigabyte
    machine.memory.write(page_table, struct.pack("<Q", FOUR_GIB | 0x83))
    machine.memory.write(PDPT + 4 * 8, struct.pack("<Q", page_table | 0x3))
    machine.accelerator.start(entry)
    assert machine.thread.run() is RunEnd.KICKED
    assert machine.memory.read(target, 4) == struct.pack("<I", 0x4242)


def test_dirty_log_names_written_pages_once(machine: Machine) -> None:
    machine.accelerator.vm.start_dirty_log()
    assert dirty_pages(machine) == set()
    machine.run(writes(1) + done())
    found = dirty_pages(machine)
    assert set(WRITTEN) <= found
    assert UNTOUCHED not in found
    assert dirty_pages(machine) == set()
    machine.run(store32(WRITTEN[1], 2) + done())
    assert dirty_pages(machine) & set(WRITTEN) == {WRITTEN[1]}
    machine.accelerator.vm.stop_dirty_log()


def test_dirty_log_can_begin_late(machine: Machine) -> None:
    machine.run(writes(1) + done())
    machine.accelerator.vm.start_dirty_log()
    machine.run(store32(WRITTEN[2], 2) + done())
    assert dirty_pages(machine) & set(WRITTEN) == {WRITTEN[2]}
    machine.accelerator.vm.stop_dirty_log()
    with pytest.raises(OSError, match="KVM_GET_DIRTY_LOG"):
        machine.accelerator.vm.take_dirty_log()


def test_reset_gives_the_state_of_power_on(new_machine: Callable[..., Machine]) -> None:
    machine = new_machine(vcpus=2)
    power_on = [vcpu.save() for vcpu in machine.accelerator.vcpus]
    vm = machine.accelerator.save_vm()
    machine.memory.write(AP_ENTRY, out_byte(0x81, 1) + b"\xfa\xf4\xeb\xfd")
    machine.start(
        enable_lapic() + route_ioapic(5, 0x35) + start_ap(1) + mov_eax(7) + out_al(0x80) + HALT_FOREVER
    )
    with machine.running():
        machine.bus.wait_for(lambda: len(machine.bus.accesses) == 2)
    machine.accelerator.reset()
    for vcpu, before in zip(machine.accelerator.vcpus, power_on, strict=True):
        after = vcpu.save()
        assert [name for name in after if after[name] != before[name]] in ([], ["msrs"])  # its TSC goes on
    after_vm = machine.accelerator.save_vm()
    controllers = ("pic_master", "pic_slave", "ioapic")
    assert [after_vm[name] for name in controllers] == [vm[name] for name in controllers]


def test_guest_boots_again_after_reset(machine: Machine) -> None:
    for value in (1, 2, 3):
        assert machine.run(out_byte(0x80, value) + done()) is RunEnd.KICKED
        machine.accelerator.reset()
    assert machine.bus.outs(0x80) == [1, 2, 3]


def test_reset_after_a_triple_fault(machine: Machine) -> None:
    assert machine.run(b"\x0f\x0b") is RunEnd.TRIPLE_FAULT  # ud2 without an IDT
    machine.accelerator.reset()
    assert machine.run(out_byte(0x80, 1) + done()) is RunEnd.KICKED


def test_host_that_lacks_a_part_is_refused_by_name(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KvmSystem, "extension", lambda _self, name: name != "KVM_CAP_IRQFD")
    with pytest.raises(AcceleratorUnavailable, match=r"^/dev/kvm lacks KVM_CAP_IRQFD$"):
        KvmAccelerator(machine.memory, 1, machine.bus)
    assert "KVM_CAP_IRQFD" in REQUIRED_CAPABILITIES


def test_refusal_halfway_is_one_line_and_leaves_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The half-made VM is given back: the fixture that counts descriptors sees to it."""
    monkeypatch.setattr(KvmSystem, "msr_indices", _refuse)
    with pytest.raises(AcceleratorUnavailable, match="KVM cannot make the machine: KVM_GET_MSR_INDEX_LIST"):
        KvmAccelerator(machine.memory, 1, machine.bus)


def _refuse(_system: KvmSystem) -> list[int]:
    raise OSError(12, "KVM_GET_MSR_INDEX_LIST: Cannot allocate memory")
