"""What a machine holds beyond its guest's RAM, itemised, when the guest has booted and does nothing.

Read from ``/proc/PID/smaps`` at the shell of a stock Debian kernel. Private is what ending the process gives
back to the host; the proportional size (PSS) adds its share of what it has in common with others, libraries
mostly. Translated code is the software CPU's cache of it, which both sides let grow to 1 GiB. A kernel or
initramfs that stays mapped after it was loaded, as QEMU's do, is not counted: it is the host's page cache.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.guests import cache_directory

from benchmarks.guests import MEMORY_MIB
from benchmarks.harness import OURS, QEMU, SIDES, Effort, Failed, Figure, Runs, interleave, join, zygote
from benchmarks.idle import idle
from benchmarks.load import connected, read_line

TOTAL, FILES, HEAPS, CODE, SHARE = (
    "private beyond RAM and code",
    "of it programs and libraries",
    "of it heaps and stacks",
    "translated code",
    "PSS beyond RAM and code",
)
FROM_ZYGOTE = "private beyond RAM and code, from a zygote"
FIGURES = (
    Figure(TOTAL, "MiB", target=1.0),
    *(Figure(name, "MiB") for name in (FILES, HEAPS, CODE, SHARE)),
    Figure(FROM_ZYGOTE, "MiB", target=10, absolute=True),
)
VCPUS = b'{"execute":"query-cpus-fast"}\r\n'  # tells a thread of the machine
KIB_PER_MIB = 1 << 10
HEADER = re.compile(r"[0-9a-f]+-[0-9a-f]+ (?P<access>\S{4}) \S+ \S+ \d+ *(?P<name>.*)")
SIZE = re.compile(r"(?P<name>\w+): +(?P<kib>\d+) kB")


class Area(NamedTuple):
    """A mapping of a process; the sizes are in MiB by their names in smaps.

    :ivar access: ``rwxp`` and the like.
    :ivar name: a file's path; of anonymous memory nothing, or a word in brackets.
    """

    access: str
    name: str
    sizes: Mapping[str, float]

    @property
    def is_file(self) -> bool:
        return self.name.startswith("/")

    @property
    def private(self) -> float:
        return self.sizes["Private_Clean"] + self.sizes["Private_Dirty"]


def measure(effort: Effort) -> Mapping[str, Runs]:
    """A machine per run, and one run where it has to be quick: memory hardly differs between runs."""
    runs = 1 if effort.quick else effort.runs
    alone = interleave({side: partial(_run, side) for side in SIDES}, runs)
    with zygote() as socket:
        return join(alone, interleave({OURS: partial(_child, socket), QEMU: _qemu}, runs))


def _run(side: str) -> Mapping[str, float]:
    with idle(side) as machine:
        return itemised(list(areas(machine.process.pid)))


def _qemu() -> Mapping[str, float]:
    return {FROM_ZYGOTE: _run(QEMU)[TOTAL]}


def _child(socket: Path) -> Mapping[str, float]:
    """Our machine, whose client is the process that we start."""
    with idle(OURS, zygote=socket) as machine, connected(machine.sockets[0]) as client:
        client.sendall(VCPUS)
        thread = json.loads(read_line(client))["return"][0]["thread-id"]
        return {FROM_ZYGOTE: itemised(list(areas(thread)))[TOTAL]}


def areas(pid: int) -> Iterator[Area]:
    """The mappings of a process."""
    access, name, sizes = "", "", dict[str, float]()
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if header := HEADER.match(line):
            access, name, sizes = header["access"], header["name"], {}
        elif size := SIZE.match(line):
            sizes[size["name"]] = int(size["kib"]) / KIB_PER_MIB
        elif line.startswith("VmFlags:"):  # comes last
            yield Area(access, name, sizes)


def itemised(mappings: list[Area]) -> Mapping[str, float]:
    """The figures of one machine.

    :raise Failed: no mapping is the guest's RAM.
    """
    guests_files = str(cache_directory().resolve())
    mappings = [area for area in mappings if not area.name.startswith(guests_files)]
    ram = [area for area in mappings if area.sizes["Size"] == MEMORY_MIB]
    if len(ram) != 1:
        raise Failed(f"{len(ram)} mappings are of the size of the guest's RAM")
    mappings.remove(ram[0])
    code = [area for area in mappings if not area.is_file and "w" in area.access and "x" in area.access]
    rest = [area for area in mappings if area not in code]
    return {
        TOTAL: sum(area.private for area in rest),
        FILES: sum(area.private for area in rest if area.is_file),
        HEAPS: sum(area.private for area in rest if not area.is_file),
        CODE: sum(area.private for area in code),
        SHARE: sum(area.sizes["Pss"] for area in rest),
    }
