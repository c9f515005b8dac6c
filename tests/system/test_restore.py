"""What becomes of a template: machines that go on from it, those that do not fit, and the template itself.

One guest is saved, with a disk that was plugged in while it ran; all tests start from that.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from stratovirt.testing import Vm, VmOptions, launched
from stratovirt.testing.options import PROMPT
from tests.system.disks import image
from tests.system.vm import command

MIB = 1 << 20
VMS = 8
RESPONSE_SECONDS = 120
"""For all of them, on two cores that have other work."""


class Template:
    """A saved guest: a shell and a file, a balloon, and a disk of 8 MiB that was plugged in."""

    def __init__(self, directory: Path, kernel: Path) -> None:
        self.directory = directory
        self.kernel = kernel
        self.snapshot = directory / "template"

    def options(self, *more: str, disk: Path | None = None, incoming: str = "") -> VmOptions:
        """Those of a machine that goes on from it."""
        disk = disk or image(self.directory / "copy.img", 8 * MIB, b"what is on it")
        return VmOptions(
            kernel=self.kernel,
            memory="128M",
            accel="tcg",
            prompt=None,
            options=(
                *("-drive", f"id=disk,file={disk}", "-device", "virtio-blk-device,drive=disk"),
                *("-device", "virtio-balloon-device", "-incoming", f"file:{self.snapshot}{incoming}"),
                *more,
            ),
        )

    def digest(self) -> str:
        """Of both its files."""
        digest = hashlib.sha256()
        for name in ("memory", "state"):
            digest.update((self.snapshot / name).read_bytes())
        return digest.hexdigest()


@pytest.fixture(scope="module")
def template(cloud_kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> Template:
    made = Template(tmp_path_factory.mktemp("template"), cloud_kernel)
    trio.run(save, made)
    return made


async def save(template: Template) -> None:
    disk = image(template.directory / "disk.img", 8 * MIB, b"what is on it")
    options = VmOptions(
        kernel=template.kernel, memory="128M", accel="tcg", options=("-device", "virtio-balloon-device")
    )
    async with launched(options) as vm, vm.qmp() as qmp:
        await vm.booted()
        file = {"driver": "file", "filename": str(disk)}
        await qmp.execute("blockdev-add", {"node-name": "disk", "file": file})
        await qmp.execute("device_add", id="disk", driver="virtio-blk-mmio", addr="0x0")
        (await vm.run("until [ $(cat /sys/block/vda/size) != 0 ]; do usleep 20000; done")).check()
        (await vm.run("echo remembered >/tmp/note")).check()
        await qmp.execute("migrate", uri=f"file:{template.snapshot}")
        await qmp.execute("quit")


async def remembers(vm: Vm) -> None:
    """The guest goes on where it was."""
    assert (await vm.run("cat /tmp/note", seconds=RESPONSE_SECONDS)).check().strip() == "remembered"


async def test_with_freeze_it_waits_for_cont(template: Template) -> None:
    async with launched(template.options("-S")) as vm, vm.qmp() as qmp:
        await qmp.execute("query-cpus-fast")  # answers once the machine is there
        assert (await qmp.execute("query-status"))["status"] == "paused"
        assert await qmp.execute("query-migrate") == {"status": "completed"}
        await qmp.execute("cont")
        await remembers(vm)


async def test_its_backends_are_the_new_command_lines(template: Template, tmp_path: Path) -> None:
    disk = image(tmp_path / "other.img", 8 * MIB, b"something else")
    async with launched(template.options(disk=disk)) as vm, vm.qmp() as qmp:
        [first, *_] = await qmp.execute("query-block")
        assert first["inserted"]["file"] == str(disk)
        assert (await vm.run("head -c 14 /dev/vda")).check() == "something else"
        (await vm.run("echo over >/dev/vda; sync")).check()
    assert disk.read_bytes()[:5] == b"over\n"


async def test_copied_memory_needs_the_template_no_more(template: Template, tmp_path: Path) -> None:
    options = template.options("-mem-path", str(tmp_path), incoming=",mapped=off")
    async with launched(options) as vm:
        maps = Path(f"/proc/{vm.pid}/maps").read_text()
        await remembers(vm)
    assert str(template.snapshot) not in maps


class WithoutKernel(VmOptions):
    """The guest of a command line that says nothing about booting."""

    def arguments(self, directory: Path) -> list[str]:
        words = super().arguments(directory)
        for option in ("-kernel", "-initrd", "-append"):
            at = words.index(option)
            del words[at : at + 2]
        return words


async def test_a_reset_boots_what_the_saved_machine_was_booted_with(template: Template) -> None:
    async with launched(WithoutKernel(**vars(template.options()))) as vm, vm.qmp() as qmp:
        await remembers(vm)
        await qmp.execute("system_reset")
        await vm.console.expect(b"Linux version", seconds=RESPONSE_SECONDS)
        await vm.console.expect(PROMPT, seconds=RESPONSE_SECONDS)
        assert (await vm.run("cat /tmp/note")).status != 0


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (("-m", "256"), "saved with 128 MiB of RAM; -m says 256"),
        (("-smp", "2"), "saved with 1 vCPUs; this machine has 2"),
        (("-cpu", "host,-sse4.2"), "the CPU lacks sse4.2"),
        (("-device", "virtio-serial-device"), "saved with 7 devices ("),
        (("-machine", "microvm,accel=kvm"), "saved under tcg; this machine runs under kvm"),
        (("-mem-path", "/tmp"), "RAM is the snapshot's own; with mapped=off it is copied"),
    ],
)
async def test_a_machine_that_does_not_fit_is_refused_in_one_line(
    change: Sequence[str], difference: str, template: Template
) -> None:
    if "accel=kvm" in change[-1] and not Path("/dev/kvm").exists():
        pytest.skip("no /dev/kvm")
    arguments = template.options().arguments(template.directory)
    if change[0] in arguments:
        arguments[arguments.index(change[0]) + 1] = change[1]
    else:
        arguments += change
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if "accelerator:" not in line]
    assert difference in line


async def test_a_disk_of_another_size_is_refused(template: Template, tmp_path: Path) -> None:
    options = template.options(disk=image(tmp_path / "small.img", 4 * MIB))
    arguments = options.arguments(template.directory)
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "saved with image 8388608 bytes; this disk has 4194304" in done.stderr) == (
        1,
        True,
    )


async def test_many_machines_share_it_and_nobody_changes_it(template: Template, tmp_path: Path) -> None:
    await shared_by(VMS, template, tmp_path)


async def shared_by(machines: int, template: Template, directory: Path) -> None:
    """So many at once write to their memory and give some of it back; half of them are killed."""
    before = template.digest()

    async def one(number: int) -> None:
        disk = image(directory / f"{number}.img", 8 * MIB)
        async with launched(template.options(disk=disk)) as vm, vm.qmp() as qmp:
            await remembers(vm)
            (await vm.run(f"head -c 8388608 /dev/urandom >/tmp/{number}")).check()
            await qmp.execute("balloon", value=96 * MIB)
            if number % 2:
                vm.process.kill()
            else:
                await qmp.execute("quit")

    with trio.fail_after(RESPONSE_SECONDS):
        async with trio.open_nursery() as nursery:
            for number in range(machines):
                nursery.start_soon(one, number)
    assert template.digest() == before
