"""Exec to userspace: our software CPU beside QEMU's, same kernel, initramfs and command line.

QEMU takes part twice, with the bzImage as shipped and with the vmlinux out of it, for its two loaders differ
by seconds; the ratio is to the faster.
"""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.guests import BUILT, CLOUD, GENERIC, UP, boot_options, kernel, vmlinux
from benchmarks.harness import (
    OURS,
    QEMU,
    Effort,
    Failed,
    Figure,
    Run,
    Runs,
    interleave,
    join,
    read_until,
    running,
    vmm,
)

KERNELS = (CLOUD, GENERIC, BUILT)
FIGURES = [Figure(name, "s", target=0.75) for name in KERNELS]
TIMEOUT = 60


def measure(effort: Effort) -> Mapping[str, Runs]:
    """All kernels, one after the other."""
    return join(*(_measured(name, effort) for name in KERNELS))


def _measured(name: str, effort: Effort) -> Mapping[str, Runs]:
    try:
        image = kernel(name, effort)
    except Failed as failure:
        return {OURS: Runs(failures=[f"{name}: {failure}"])}
    return interleave(_sides(name, image), effort.runs)


def _sides(name: str, image: Path) -> dict[str, Run]:
    # The kernel built for the machine has no ACPI: each side then describes the machine in its other way.
    acpi = name != BUILT
    forms = {OURS: image, f"{QEMU}, bzImage": image, f"{QEMU}, vmlinux": vmlinux(image)}
    commands = {
        side: vmm(side.partition(",")[0], *boot_options(image, form, "up"), acpi=acpi)
        for side, form in forms.items()
    }
    return {side: partial(_run, name, command) for side, command in commands.items()}


def _run(name: str, command: Sequence[str]) -> Mapping[str, float]:
    start = time.monotonic()
    with running(command) as process:
        read_until(process, UP, TIMEOUT)
        return {name: time.monotonic() - start}
