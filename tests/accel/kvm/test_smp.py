"""Several vCPUs, each in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable

from stratovirt.accel.protocol import RunEnd
from stratovirt.accel.topology import Topology
from tests.accel.guests import (
    AP_ENTRY,
    DATA,
    EOI,
    HALT_FOREVER,
    ICR_HIGH,
    ICR_LOW,
    IRETQ,
    SPIN,
    enable_lapic,
    load_idt,
    mask_pics,
    out_byte,
    start_ap,
    store32,
)
from tests.accel.kvm.conftest import Machine

AP_RUNS, BOOT_CPU_READY, HANDLED = 0x81, 0x80, 0x82
REAL_MODE_HALT = b"\xfa\xf4\xeb\xfd"  # cli; l: hlt; jmp l


def test_second_cpu_waits_for_init_and_sipi(new_machine: Callable[..., Machine]) -> None:
    machine = new_machine(vcpus=2)
    machine.memory.write(AP_ENTRY, out_byte(AP_RUNS, 0x77) + REAL_MODE_HALT)
    machine.start(out_byte(BOOT_CPU_READY, 1) + enable_lapic() + start_ap(1) + HALT_FOREVER)
    with machine.running() as ends:
        machine.bus.wait_for(lambda: bool(machine.bus.outs(AP_RUNS)))
        assert ends == []
    assert [access.address for access in machine.bus.accesses] == [BOOT_CPU_READY, AP_RUNS]
    assert machine.accelerator.vcpus[1].registers()["cs_base"] == AP_ENTRY
    assert ends == [RunEnd.KICKED, RunEnd.KICKED]


def test_an_apic_id_with_a_gap_before_it_is_reached(new_machine: Callable[..., Machine]) -> None:
    """Two sockets of three cores: the fourth vCPU has id 4, which it also reads from CPUID."""
    machine = new_machine(vcpus=4, topology=Topology(sockets=2, cores=3))
    # real mode: mov eax, 1; cpuid; shr ebx, 24; mov al, bl; out AP_RUNS, al
    say_id = b"\x66\xb8\x01\0\0\0\x0f\xa2\x66\xc1\xeb\x18\x88\xd8\xe6" + bytes([AP_RUNS])
    machine.memory.write(AP_ENTRY, say_id + REAL_MODE_HALT)
    machine.start(enable_lapic() + start_ap(4) + HALT_FOREVER)
    with machine.running():
        machine.bus.wait_for(lambda: bool(machine.bus.accesses))
    assert machine.bus.outs(AP_RUNS) == [4]


def test_cpu_that_waits_for_sipi_comes_back_when_kicked(new_machine: Callable[..., Machine]) -> None:
    machine = new_machine(vcpus=2)
    machine.start(out_byte(BOOT_CPU_READY, 1) + SPIN)
    with machine.running() as ends:
        machine.bus.wait_for(lambda: bool(machine.bus.accesses))
    assert ends == [RunEnd.KICKED, RunEnd.KICKED]


def test_cpus_add_up_with_locked_increments(new_machine: Callable[..., Machine]) -> None:
    """Both count in one word at the same time; nothing is lost between their threads."""
    rounds = 500
    counter = DATA.to_bytes(4, "little")
    segment = b"\xb8" + (DATA >> 4).to_bytes(2, "little") + b"\x8e\xd8"  # real mode: mov ax, …; mov ds, ax
    # mov ecx, rounds; l: lock inc dword [0]; dec ecx; jnz l
    ap = segment + b"\x66\xb9" + rounds.to_bytes(4, "little") + b"\xf0\x66\xff\x06\0\0\x66\x49\x75\xf6"
    # 64-bit: mov ebx, DATA; mov ecx, rounds; l: lock inc dword [rbx]; dec ecx; jnz l
    boot_cpu = b"\xbb" + counter + b"\xb9" + rounds.to_bytes(4, "little") + b"\xf0\xff\x03\xff\xc9\x75\xf9"
    machine = new_machine(vcpus=2)
    machine.memory.write(AP_ENTRY, ap + out_byte(AP_RUNS, 1) + REAL_MODE_HALT)
    machine.start(enable_lapic() + start_ap(1) + boot_cpu + out_byte(BOOT_CPU_READY, 1) + HALT_FOREVER)
    with machine.running():
        machine.bus.wait_for(lambda: len(machine.bus.accesses) == 2)
    assert int.from_bytes(machine.memory.read(DATA, 4), "little") == 2 * rounds


def test_interprocessor_interrupt_reaches_the_sender_by_its_apic_id(machine: Machine) -> None:
    vector = 0x40
    code = (
        load_idt() + mask_pics() + enable_lapic() + store32(ICR_HIGH, 0) + store32(ICR_LOW, 0x4000 | vector)
    )
    machine.start(code + HALT_FOREVER, {vector: out_byte(HANDLED, 1) + store32(EOI, 0) + IRETQ})
    with machine.running():
        machine.bus.wait_for(lambda: machine.bus.outs(HANDLED) == [1])
    assert machine.bus.outs(HANDLED) == [1]


def test_each_vcpu_has_a_named_thread_body(new_machine: Callable[..., Machine]) -> None:
    accelerator = new_machine(vcpus=3).accelerator
    assert [thread.name for thread in accelerator.threads] == ["vcpu-0", "vcpu-1", "vcpu-2"]
    assert [vcpu.index for thread in accelerator.threads for vcpu in thread.vcpus] == [0, 1, 2]
    assert [vcpu.index for vcpu in accelerator.vcpus] == [0, 1, 2]
