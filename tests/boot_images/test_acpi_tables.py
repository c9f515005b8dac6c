"""ACPI tables are what ACPICA's own compiler makes of them, and say what the platform says."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.boot import EVENT_POWER_BUTTON, Platform, VirtioSlot, acpi, aml, lowmem
from stratovirt.memory import GuestMemory

HEADER = 36
PLATFORM = Platform()
SLOTS = [VirtioSlot(0xF010_0000 + 0x200 * index, 0x200, gsi) for index, gsi in enumerate(range(16, 24))]
MAX_CPUS = 254
# More than the machine has interrupt lines for.
MANY_SLOTS = [VirtioSlot(0xF010_0000 + 0x200 * index, 0x200, index) for index in range(24)]


def run_iasl(*arguments: str | Path) -> str:
    iasl = shutil.which("iasl")
    if iasl is None:
        pytest.skip("iasl (Debian's acpica-tools) is not installed")
    done = subprocess.run([iasl, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def disassemble(table: bytes, directory: Path) -> str:
    """ACPICA's reading of a table, with comments taken out."""
    binary = directory / "table.aml"
    binary.write_bytes(table)
    assert not re.search("error|warning|invalid", run_iasl("-d", binary), re.IGNORECASE)
    return re.sub(r"(?s:/\*.*?\*/)|//.*", "", binary.with_suffix(".dsl").read_text())


def fields(listing: str) -> dict[str, str]:
    """``{name: value}`` of a data table's disassembly; of equal names the last, which is the 64-bit one."""
    return dict(re.findall(r"^(?:\[.*?\])? +(.*?) : (.*?)$", listing, re.MULTILINE))


@pytest.mark.parametrize("slots", [[], SLOTS, MANY_SLOTS], ids=["no slots", "8 slots", "24 slots"])
def test_dsdt_compiles_back_to_the_same_bytes(slots: list[VirtioSlot], tmp_path: Path) -> None:
    table = acpi.dsdt(slots, PLATFORM)
    disassemble(table, tmp_path)
    output = run_iasl("-oa", "-p", tmp_path / "again", tmp_path / "table.dsl")
    assert "0 Errors, 0 Warnings" in output
    assert (tmp_path / "again.aml").read_bytes()[HEADER:] == table[HEADER:]


def test_dsdt_names_every_slot_with_its_registers_and_interrupt(tmp_path: Path) -> None:
    listing = disassemble(acpi.dsdt(SLOTS, PLATFORM), tmp_path)
    nodes = re.findall(
        r'"LNRO0005".*?(0x[0-9A-F]{8}),\s+(0x[0-9A-F]{8}),\s+\)\s+'
        r"Interrupt \(ResourceConsumer, Level, ActiveHigh, Exclusive, ,, \)\s+\{\s+(0x[0-9A-F]{8}),",
        listing,
        re.DOTALL,
    )
    assert [VirtioSlot(*(int(number, 16) for number in node)) for node in nodes] == SLOTS


def test_dsdt_events_notify_the_power_button(tmp_path: Path) -> None:
    listing = " ".join(disassemble(acpi.dsdt([], PLATFORM), tmp_path).split())
    assert "OperationRegion (EREG, SystemMemory, 0xFEA00000, 0x04)" in listing
    assert f"Local0 = ESEL If ((Local0 & 0x{EVENT_POWER_BUTTON:02X})) {{ Notify (PWRB, 0x80) }}" in listing
    assert 'Device (PWRB) { Name (_HID, EisaId ("PNP0C0C") )' in listing


def test_dsdt_has_the_serial_port_and_the_clock(tmp_path: Path) -> None:
    listing = " ".join(disassemble(acpi.dsdt([], PLATFORM), tmp_path).split())
    assert 'EisaId ("PNP0501") ) Name (_UID, Zero)' in listing
    assert "IO (Decode16, 0x03F8, 0x03F8, 0x01, 0x08, )" in listing
    assert "IO (Decode16, 0x0070, 0x0070, 0x01, 0x02, )" in listing
    assert "Name (\\_S5, Package (0x04) { 0x05, Zero, Zero, Zero })" in listing


def test_fadt_is_hardware_reduced_with_reset_and_sleep_registers(tmp_path: Path) -> None:
    table = acpi.fadt(0xE0040, PLATFORM)
    found = fields(disassemble(table, tmp_path))
    assert found["Hardware Reduced (V5)"] == "1"
    assert found["Reset Register Supported (V2)"] == "1"
    assert found["8042 Present on ports 60/64 (V2)"] == "0"
    assert found["Value to cause reset"] == "01"
    assert int(found["DSDT Address"], 16) == 0xE0040
    for offset, port in ((116, PLATFORM.reset_port), (244, PLATFORM.sleep_control_port)):
        assert struct.unpack_from("<BBBBQ", table, offset) == (1, 8, 0, 1, port)


@pytest.mark.parametrize("cpus", [1, 4, MAX_CPUS])
def test_madt_lists_every_cpu_and_the_io_apic(cpus: int, tmp_path: Path) -> None:
    listing = disassemble(acpi.madt(range(cpus), PLATFORM), tmp_path)
    ids = re.findall(r"Local Apic ID : ([0-9A-F]{2})\n\[.*?\]\s+Flags .*? : 00000001", listing)
    assert [int(number, 16) for number in ids] == list(range(cpus))
    assert fields(listing)["I/O Apic ID"] == "00"
    assert (
        int(re.findall(r"Subtable Type : 01.*?Address : ([0-9A-F]{8})", listing, re.DOTALL)[0], 16)
        == 0xFEC0_0000
    )


@pytest.mark.parametrize("cpus", [1, MAX_CPUS])
def test_tables_are_reached_from_the_rsdp_and_sum_to_zero(cpus: int, memory: GuestMemory) -> None:
    rsdp = acpi.write(memory, range(cpus), MANY_SLOTS, PLATFORM)
    root = memory.read(rsdp, 36)
    assert (rsdp % 16, root[:8], sum(root[:20]) % 256, sum(root) % 256) == (0, b"RSD PTR ", 0, 0)
    xsdt = table_at(memory, int.from_bytes(root[24:32], "little"))
    tables = [table_at(memory, address) for (address,) in struct.iter_unpack("<Q", xsdt[HEADER:])]
    assert [table[:4] for table in tables] == [b"FACP", b"APIC"]
    assert table_at(memory, struct.unpack_from("<Q", tables[0], 140)[0])[:4] == b"DSDT"


def table_at(memory: GuestMemory, address: int) -> bytes:
    """The table at an address in the firmware's area, with its checksum verified."""
    length = int.from_bytes(memory.read(address + 4, 4), "little")
    table = memory.read(address, length)
    assert lowmem.ACPI_TABLES <= address < address + length <= lowmem.ACPI_TABLES_END
    assert sum(table) % 256 == 0
    return table


@given(value=st.integers(0, (1 << 64) - 1))
def test_integers_are_encoded_shortest_and_read_back(value: int) -> None:
    """The constant after its prefix is the value, and no shorter one could hold it."""
    encoded = aml.integer(value)
    widths = {0x0A: 1, 0x0B: 2, 0x0C: 4, 0x0E: 8}
    width = widths.get(encoded[0], 0)
    assert int.from_bytes(encoded[1:] or encoded, "little") == value
    assert len(encoded) == 1 + width
    assert value >= {0: 0, 1: 2, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}[width]


@given(length=st.integers(0, 70_000))
def test_package_lengths_count_themselves(length: int) -> None:
    """PkgLength decoded as ACPI 6.4 §20.2.4 says leads to the end of the term."""
    encoded = aml.scope("ABCD", bytes(length))[1:]
    extra = encoded[0] >> 6
    high = int.from_bytes(encoded[1 : 1 + extra], "little")
    total = encoded[0] & 0x3F if extra == 0 else encoded[0] & 0x0F | high << 4
    assert total == len(encoded) == 1 + extra + 4 + length
