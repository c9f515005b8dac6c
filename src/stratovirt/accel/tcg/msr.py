"""Model-specific registers that neither the engine nor the interrupt controllers keep.

The law: what CPUID does not offer raises #GP, as hardware does; a few that Linux touches without asking
read as given here and ignore writes. Source: Intel SDM, volume 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stratovirt.accel.tcg.library import lib

TSC = 0x10
TSC_ADJUST = 0x3B
SPEC_CTRL = 0x48
PRED_CMD = 0x49
ARCH_CAPABILITIES = 0x10A

NOT_SPECULATIVE = (
    1 << 0  # RDCL_NO
    | 1 << 1  # IBRS_ALL
    | 1 << 3  # SKIP_L1DFL_VMENTRY
    | 1 << 4  # SSB_NO
    | 1 << 5  # MDS_NO
    | 1 << 6  # IF_PSCHANGE_MC_NO
    | 1 << 8  # TAA_NO
    | 1 << 13  # SBDR_SSDP_NO
    | 1 << 14  # FBSDP_NO
    | 1 << 15  # PSDP_NO
    | 1 << 20  # BHI_NO
    | 1 << 24  # PBRSB_NO
    | 1 << 26  # GDS_NO
    | 1 << 27  # RFDS_NO
    | 1 << 62  # ITS_NO
)

FIXED: dict[int, int] = {
    0x17: 0,  # IA32_PLATFORM_ID
    0x2A: 0,  # EBL_CR_POWERON
    0x3A: 1,  # IA32_FEATURE_CONTROL: locked, no VMX
    PRED_CMD: 0,
    0x79: 0,  # IA32_BIOS_UPDT_TRIG
    0xCD: 3,  # FSB_FREQ
    ARCH_CAPABILITIES: NOT_SPECULATIVE,
    0x1D9: 0,  # IA32_DEBUGCTL
    0x1DB: 0,  # last branch and interrupt records
    0x1DC: 0,
    0x1DD: 0,
    0x1DE: 0,
}


APART: tuple[int, ...] = (
    *(0x250, 0x258, 0x259, *range(0x268, 0x270)),  # MTRRs: fixed ranges
    *range(0x200, 0x210),  # eight variable ranges, base and mask
    0x2FF,  # MTRR_DEF_TYPE
    0x17B,  # MCG_CTL
    *range(0x400, 0x428),  # ten banks of machine checks
)
"""What the engine keeps apart from the registers that a reset clears: they are saved one by one."""


class MsrFile:
    """The MSRs of one vCPU."""

    def __init__(self, machine: Any, cpu: int) -> None:
        self._machine = machine
        self._cpu = cpu
        self._speculation_control = 0
        self._readers: dict[int, Callable[[], int]] = {
            TSC: self._tsc,
            TSC_ADJUST: lambda: int(lib.tcg_tsc_adjust(machine, cpu)),
            SPEC_CTRL: lambda: self._speculation_control,
        }
        self._writers: dict[int, Callable[[int], None]] = {
            TSC: lambda value: self._set_adjust(value - int(lib.tcg_tsc(machine))),
            TSC_ADJUST: self._set_adjust,
            SPEC_CTRL: self._set_speculation_control,
        }

    def read(self, index: int) -> int | None:
        """Value, or None where the guest gets #GP."""
        reader = self._readers.get(index)
        return reader() if reader else FIXED.get(index)

    def write(self, index: int, value: int) -> bool:
        """Whether the MSR exists; a value for a fixed one is dropped."""
        writer = self._writers.get(index)
        if writer is None:
            return index in FIXED
        writer(value)
        return True

    def save(self) -> dict[str, Any]:
        """What neither the engine's registers nor the interrupt controllers hold."""
        values = {f"{index:#x}": int(lib.tcg_read_msr(self._machine, self._cpu, index)) for index in APART}
        return {"speculation_control": self._speculation_control, "engine": values}

    def load(self, state: dict[str, Any]) -> None:
        """Put in what :meth:`save` gave."""
        self._speculation_control = state["speculation_control"]
        for index in APART:
            lib.tcg_write_msr(self._machine, self._cpu, index, state["engine"][f"{index:#x}"])

    def _tsc(self) -> int:
        return int(lib.tcg_tsc(self._machine)) + int(lib.tcg_tsc_adjust(self._machine, self._cpu))

    def _set_adjust(self, value: int) -> None:
        lib.tcg_set_tsc_adjust(self._machine, self._cpu, value & 0xFFFF_FFFF_FFFF_FFFF)

    def _set_speculation_control(self, value: int) -> None:
        self._speculation_control = value
