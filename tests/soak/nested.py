"""A stock kernel on our KVM accelerator, on hosts whose own KVM runs none or that have no KVM at all.

QEMU's software CPU has AMD's SVM. In a Debian guest of it (the outer guest) kvm_amd gives a /dev/kvm that
runs guest kernels as hardware does, only slower: an inner boot takes 30 s. The outer guest has the host's
file system, Python and this project included, and runs ``python -m tests.soak.nested CHECK ROUND``; what
that says comes out of QEMU's serial port.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from stratovirt.testing import GuestConsole
from stratovirt.tools.guest import publish
from stratovirt.tools.initramfs import build, find_busybox
from stratovirt.tools.kernels import Kernel
from tests import guests
from tests.soak import checks

INIT = Path(__file__).parent / "outer-init"
MODULES = ("virtio_pci", "9p", "9pnet_virtio", "overlay", "kvm_amd")
# One CPU: with two the outer guest's own kernel soft-locks up while a vCPU runs.
QEMU = (
    *("qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "1"),
    *("-m", "2G", "-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-serial", "stdio"),
    *("-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"),
    *("-device", "virtio-9p-pci,fsdev=host,mount_tag=host"),
)
# A periodic timer, because QEMU's halted CPU was seen to sleep on with a timer interrupt pending in its local
# APIC (IRR 236, IF 1): the next tick raises it again. And no clocksource watchdog, which a busy host alarms.
OUTER_APPEND = "console=ttyS0 panic=-1 mitigations=off nohz=off highres=off tsc=reliable"
# QEMU 7.2's SVM has no intercept of XSETBV: KVM does not learn which XCR0 its guest has chosen and puts the
# reset value back at each entry, so XSAVE in the inner guest loses the SSE registers.
KVM = checks.Platform("kvm", is_kvm=True, append="noxsave")
PROBED = replace(KVM, accel="kvm:tcg")
OUTER_BOOT_SECONDS = 120  # takes 15
CHECK_SECONDS = 1200
OK = "NESTED-OK"


async def _unit_tests(_number: int, _directory: Path) -> None:
    """The accelerator's own tests pass, and none is skipped."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/accel/kvm"]
    done = await trio.run_process(command, capture_stdout=True, check=False)
    report = done.stdout.decode()
    print(report)
    assert done.returncode == 0
    assert "skipped" not in report


CHECKS: dict[str, Callable[[int, Path], Awaitable[None]]] = {
    "unit tests": _unit_tests,
    "boot cloud -smp 1": partial(checks.boot, KVM, "cloud", 1),
    "boot cloud -smp 2": partial(checks.boot, KVM, "cloud", 2),
    "boot generic -smp 1, accelerator by probe": partial(checks.boot, PROBED, "generic", 1),
    "3 reboots in a row": partial(checks.reboots, KVM, 3),
    "stress -smp 1": partial(checks.guest_test, KVM, "stress", 1),
    "smp -smp 2": partial(checks.guest_test, KVM, "smp", 2),
    "100 stop/cont pairs -smp 1": partial(checks.stop_cont, KVM, 100, 1),
    "100 stop/cont pairs -smp 2": partial(checks.stop_cont, KVM, 100, 2),
    "3 snapshots -smp 1": partial(checks.snapshots, KVM, 3, 1),
    "3 snapshots -smp 2": partial(checks.snapshots, KVM, 3, 2),
}


async def passes(name: str, number: int, _directory: Path) -> None:
    """Check ``name`` passes in an outer guest."""
    async with _outer_guest(name, number) as console:
        await console.expect(b"Nested Paging enabled", seconds=OUTER_BOOT_SECONDS)
        await console.expect(f"{OK} {name}".encode(), seconds=CHECK_SECONDS)
        print(OK, name, (await console.expect(b"\n")).decode().strip(), flush=True)


@asynccontextmanager
async def _outer_guest(name: str, number: int) -> AsyncIterator[GuestConsole]:
    """Its serial port, which can only be listened to; the guest is gone at the end of the block."""
    kernel = guests.generic_kernel()
    for inner in (kernel, guests.cloud_kernel()):  # in there is no network to get one
        guests.initramfs(inner)
    words = f'check="{name}" round={number} python={sys.executable} project={guests.PROJECT}'
    words += f" guests={guests.cache_directory().resolve()}"
    boot = ["-kernel", str(kernel), "-initrd", str(_initramfs(kernel))]
    boot += ["-append", f"{OUTER_APPEND} {words}"]
    process = await trio.lowlevel.open_process(
        [*QEMU, *boot], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    try:
        async with process.stdout:
            yield GuestConsole(process.stdout)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


def _initramfs(kernel: Path) -> Path:
    directory = guests.cache_directory()
    image = build(Kernel.at(kernel), find_busybox(directory), init=INIT, modules=MODULES)
    return publish(image, directory / f"outer-{kernel.name}.cpio")


def main(name: str, number: int) -> None:
    """Inside: run the check, and say so where it passes. A failure ends in its traceback."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        try:
            trio.run(CHECKS[name], number, Path(directory))
        finally:
            for log in Path(directory).glob("stderr.txt"):
                print(log.read_text())
    print(f"{OK} {name} ({time.monotonic() - start:.1f} s)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
