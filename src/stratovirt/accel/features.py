"""The features of a CPU by the names that ``-cpu`` knows: bits of CPUID, named as QEMU names them.

Source: Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E; QEMU, target/i386/cpu.c, for the names.
"""

from __future__ import annotations

from typing import NamedTuple

EAX, EBX, ECX, EDX = range(4)


class Feature(NamedTuple):
    """One bit of CPUID.

    :ivar register: :data:`EAX` to :data:`EDX`.
    """

    leaf: int
    subleaf: int
    register: int
    bit: int

    @property
    def mask(self) -> int:
        """Of the register."""
        return 1 << self.bit


class Features(NamedTuple):
    """Names that the guest's CPU shall have, and that it shall not have; otherwise it is as it is."""

    required: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


UNCHANGED = Features()


_WORDS: dict[tuple[int, int, int], str] = {
    (0x1, 0, EDX): (
        "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov "
        "pat pse36 pn clflush - ds acpi mmx fxsr sse sse2 ss ht tm ia64 pbe"
    ),
    (0x1, 0, ECX): (
        "pni pclmulqdq dtes64 monitor ds-cpl vmx smx est tm2 ssse3 cid - fma cx16 xtpr pdcm "
        "- pcid dca sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave - avx f16c rdrand hypervisor"
    ),
    (0x7, 0, EBX): (
        "fsgsbase tsc-adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm - - mpx - "
        "avx512f avx512dq rdseed adx smap avx512ifma - clflushopt clwb intel-pt avx512pf avx512er avx512cd "
        "sha-ni avx512bw avx512vl"
    ),
    (0x7, 0, ECX): (
        "- avx512vbmi umip pku - waitpkg avx512vbmi2 - gfni vaes vpclmulqdq avx512vnni avx512bitalg - "
        "avx512-vpopcntdq - la57 - - - - - rdpid - - cldemote - movdiri movdir64b - - pks"
    ),
    (0x7, 0, EDX): (
        "- - avx512-4vnniw avx512-4fmaps fsrm - - - avx512-vp2intersect - md-clear - - - serialize - "
        "tsx-ldtrk - - arch-lbr - - amx-bf16 avx512-fp16 amx-tile amx-int8 spec-ctrl stibp - "
        "arch-capabilities - ssbd"
    ),
    (0xD, 1, EAX): "xsaveopt xsavec xgetbv1 xsaves",
    (0x8000_0001, 0, EDX): (
        "- - - - - - - - - - - syscall - - - - - - - - nx - mmxext - - fxsr-opt pdpe1gb rdtscp - lm "
        "3dnowext 3dnow"
    ),
    (0x8000_0001, 0, ECX): (
        "lahf-lm cmp-legacy svm extapic cr8legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop "
        "skinit wdt - lwp fma4 tce - - - tbm topoext perfctr-core perfctr-nb"
    ),
    (0x8000_0007, 0, EDX): "- - - - - - - - invtsc",
}

FEATURES: dict[str, Feature] = {
    name: Feature(*place, bit)
    for place, words in _WORDS.items()
    for bit, name in enumerate(words.split())
    if name != "-"
}
