"""A guest does what it is told: commands and files come through as they are, whatever the kernel prints."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from stratovirt.testing import GuestError, Vm, VmOptions, launched
from stratovirt.testing.shell import SLICE

SEQUENCE = "".join(f"{number}\n" for number in range(1, 1001))
NOISE = "(while :; do echo noise >/dev/kmsg; usleep 20000; done) >/dev/null 2>&1 &"


async def test_commands_and_files_come_through_as_they_are(options: VmOptions) -> None:
    """One boot for all of it: boots are dear."""
    async with launched(options) as vm:
        await vm.booted()
        await outputs_and_statuses_are_the_commands_own(vm)
        await a_command_that_does_not_end_is_interrupted(vm)
        assert (await vm.run(NOISE)).status == 0
        await vm.console.expect(b"noise")
        assert (await vm.run("seq 1000")).output == SEQUENCE
        await files_arrive_whole_both_ways(vm)
        await what_the_guest_cannot_do_is_said(vm)
        await the_process_can_be_looked_at(vm)
        assert await last_command_ends_the_machine(vm) == 0


async def outputs_and_statuses_are_the_commands_own(vm: Vm) -> None:
    for command, output, status in (
        ("echo one; echo two >&2; false", "one\ntwo\n", 1),
        ("printf 'x\\r\\n\\ty'; exit 77", "x\r\n\ty", 77),
        ("true", "", 0),
        ("printf '\\n\\n'", "\n\n", 0),
        ("cat", "", 0),
        ("echo 'it'\"'\"'s'; echo \"$((6 * 7))\"", "it's\n42\n", 0),
        ("echo one\necho 'two\nthree'\n", "one\ntwo\nthree\n", 0),
        (f"echo {'x' * 5000}", "x" * 5000 + "\n", 0),
        ("kill -9 $$", "Killed\n", 137),
    ):
        result = await vm.run(command)
        assert (result.output, result.status) == (output, status), command
    unclosed = await vm.run("echo 'unclosed")
    assert unclosed.status == 2
    assert "unterminated quoted string" in unclosed.output
    log = (await vm.run("dmesg")).check()
    assert log.startswith("[    0.000000] Linux version"), "what looks like kernel messages is kept"
    assert len(log) > 5000


async def a_command_that_does_not_end_is_interrupted(vm: Vm) -> None:
    with pytest.raises(AssertionError, match="within 1 s"):
        await vm.run("sleep 1000", seconds=1)
    assert (await vm.run("pidof sleep")).status == 1


async def files_arrive_whole_both_ways(vm: Vm) -> None:
    random = hashlib.shake_256(b"seed").digest(SLICE + 100)
    await vm.push("/tmp/a file's name", random)
    assert (await vm.run('sha256sum <"/tmp/a file\'s name"')).output.split()[0] == (
        hashlib.sha256(random).hexdigest()
    )
    assert await vm.pull("/tmp/a file's name") == random
    for data in (b"", b"\0", b"[    0.000000] x\r\n\x04\x03"):
        await vm.push("/tmp/small", data)
        assert await vm.pull("/tmp/small") == data
    (await vm.run(f'head -c {SLICE} <"/tmp/a file\'s name" >/tmp/slice')).check()
    assert await vm.pull("/tmp/slice") == random[:SLICE]


async def what_the_guest_cannot_do_is_said(vm: Vm) -> None:
    with pytest.raises(GuestError, match="No such file"):
        await vm.pull("/nowhere")
    with pytest.raises(GuestError, match="nonexistent"):
        await vm.push("/nowhere/file", b"x")


async def the_process_can_be_looked_at(vm: Vm) -> None:
    assert any(name.startswith("vcpu") for name in vm.threads())
    assert 32 << 20 < vm.memory() < 1 << 30


async def last_command_ends_the_machine(vm: Vm) -> int:
    await vm.console.type("poweroff -f")
    return await vm.exit_code()


async def test_a_command_line_that_is_refused_is_told_at_once_with_the_reason(options: VmOptions) -> None:
    with pytest.raises(AssertionError, match=r"ended with 1: stratovirt: -bogus: unknown option"):
        async with launched(replace(options, options=("-bogus",))):
            pytest.fail("it has started")
