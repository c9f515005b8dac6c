"""What lies where in the guest's first megabyte; ``docs/boot.md`` shows it as a table.

Addresses below the EBDA are StratoVirt's. The guest is told of RAM up to :data:`EBDA`; Linux takes
what it needs from there before it gives that RAM out.
"""

# BIOS data area: where real-mode software, and Linux, look for the EBDA (word, in paragraphs) and for
# the size of base memory (word, in KiB).
BDA_EBDA_SEGMENT = 0x40E
BDA_BASE_MEMORY_KIB = 0x413

GDT = 0x500
BOOT_PARAMS = 0x7000
STACK_TOP = 0x8FF0
PAGE_TABLES = 0x9000  # six pages, to 0xF000
CMDLINE = 0x2_0000
CMDLINE_END = 0x3_0000

# The extended BIOS data area: 8 KiB rather than the usual 1, for the MP table of 254 CPUs.
EBDA = 0x9_E000
EBDA_END = 0xA_0000

# Where a PC's firmware has its tables, and room for the ACPI tables of 254 CPUs and all slots.
ACPI_TABLES = 0xE_0000
ACPI_TABLES_END = 0xF_FFF0

# Where a PC goes on after a reset, and where Linux jumps in real mode to have its firmware reset the machine.
RESET_VECTOR = 0xF_FFF0

HIGH_MEMORY = 0x10_0000
