"""vCPUs of the software CPU, and the one thread that runs them in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stratovirt.accel.protocol import RunEnd
from stratovirt.accel.tcg.exits import Exits
from stratovirt.accel.tcg.library import ffi, lib
from stratovirt.errors import AcceleratorError

REGISTERS = {
    "rip": 41,
    "rflags": 253,
    "rax": 35,
    "rbx": 37,
    "rcx": 38,
    "rdx": 40,
    "rsi": 43,
    "rdi": 39,
    "rbp": 36,
    "rsp": 44,
    "r8": 106,
    "r9": 107,
    "r10": 108,
    "r11": 109,
    "r12": 110,
    "r13": 111,
    "r14": 112,
    "r15": 113,
    "cr0": 50,
    "cr2": 52,
    "cr3": 53,
    "cr4": 54,
    "cs": 11,
    "ds": 17,
    "es": 28,
    "fs": 32,
    "gs": 33,
    "ss": 49,
    "tr": 245,
    "fs_base": 250,
    "gs_base": 251,
}
"""Register numbers of <unicorn/x86.h>."""


RUN_STATES = ("waiting-for-sipi", "runnable", "halted")
"""By their numbers in the glue."""


class TcgVcpu:
    """One virtual CPU: an engine of its own."""

    def __init__(self, machine: Any, index: int) -> None:
        self._machine = machine
        self.index = index

    @property
    def halted(self) -> bool:
        """In HLT or waiting for SIPI."""
        return bool(lib.tcg_halted(self._machine, self.index))

    def registers(self) -> Mapping[str, int]:
        """Registers by name. Only while it is not running."""
        return {
            name: int(lib.tcg_read_register(self._machine, self.index, number))
            for name, number in REGISTERS.items()
        }

    def save(self) -> dict[str, Any]:
        """All that the engine and the glue know of it, but for MSRs that :class:`MsrFile` saves."""
        state = ffi.new("struct tcg_vcpu_state *")
        lib.tcg_save_vcpu(self._machine, self.index, state)
        return {
            "run_state": RUN_STATES[state.run_state],
            "events": state.events,
            "startup_vector": state.startup_vector,
            "tsc_adjust": state.tsc_adjust,
            "registers": bytes(ffi.buffer(state.registers)),
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Put in what :meth:`save` gave.

        :raises AcceleratorError: it cannot be of such a vCPU.
        """
        registers = saved["registers"]
        if len(registers) != lib.TCG_REGISTERS_SIZE:
            raise AcceleratorError(
                f"vCPU {self.index}: {len(registers)} bytes of registers, not {lib.TCG_REGISTERS_SIZE}"
            )
        state = ffi.new("struct tcg_vcpu_state *")
        state.run_state = RUN_STATES.index(saved["run_state"])
        for field in ("events", "startup_vector", "tsc_adjust"):
            setattr(state, field, saved[field])
        ffi.memmove(state.registers, registers, len(registers))
        lib.tcg_load_vcpu(self._machine, self.index, state)


class TcgThread:
    """The body of the thread in which all vCPUs run in turns."""

    def __init__(self, machine: Any, exits: Exits, vcpus: Sequence[TcgVcpu]) -> None:
        self._machine = machine
        self._exits = exits
        self.vcpus = vcpus
        self.name = "vcpu-0" if len(vcpus) == 1 else f"vcpu-0-{len(vcpus) - 1}"

    def run(self) -> RunEnd:
        """Run guest code in the calling thread; see :class:`stratovirt.accel.protocol.VcpuThread`.

        :raises AcceleratorError: the engine gave up.
        """
        end = lib.tcg_run(self._machine)
        failure = self._exits.take_failure()
        if failure is not None:
            raise failure
        if end == lib.TCG_END_ENGINE:
            raise self._engine_error()
        return {
            lib.TCG_END_STOPPED: RunEnd.KICKED,
            lib.TCG_END_TRIPLE_FAULT: RunEnd.TRIPLE_FAULT,
            lib.TCG_END_HALTED_FOREVER: RunEnd.HALTED_FOREVER,
        }[end]

    def kick(self) -> None:
        """Make :meth:`run` return KICKED soon. Any thread."""
        lib.tcg_stop(self._machine)

    def _engine_error(self) -> AcceleratorError:
        cpu = ffi.new("int *")
        reason = ffi.string(lib.tcg_error(self._machine, cpu)).decode()
        return AcceleratorError(f"vCPU {cpu[0]}: {reason}", dict(self.vcpus[cpu[0]].registers()))
