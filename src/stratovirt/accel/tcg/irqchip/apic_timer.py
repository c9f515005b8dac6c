"""The timer of a local APIC."""

LAPIC_TIMER_HZ = 1_000_000_000
