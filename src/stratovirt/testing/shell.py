"""Commands run in the guest's shell over its console, and files carried the same way.

The law: what is returned is what the command wrote, byte for byte, or an error says so. A serial line is
shared with the kernel, whose messages burst into the middle of a line. So the marks around a command's
output are looked for in lines that are cleaned of them, and output counts only with the SHA-256 that the
guest took of it. Where that differs (``dmesg`` prints what looks like the kernel), the output is fetched
again as base64, in which nothing looks like a message.

The guest needs sh, base64, cat, dd, sha256sum, stty, tee and a writable /tmp; busybox has them all.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from stratovirt.testing.console import PATIENCE, GuestConsole

SLICE = 24 << 10
"""Bytes of a file per turn: as base64 within the 64 KiB that Linux keeps for a tty (tty_buffer.c)."""
TYPED_LIMIT = 400
"""Bytes of a command that is typed as it is; busybox's line editor takes 1,024 (FEATURE_EDITING_MAX_LEN)."""
LINE = 1024
"""Bytes of base64 per line: a tty takes lines of 4,096 (Linux, N_TTY_BUF_SIZE)."""
ATTEMPTS = 5
"""Turns to get a slice through whole, against programs that write to the console meanwhile."""

OUTPUT, STATUS = "/tmp/.stratovirt-output", "/tmp/.stratovirt-status"
INCOMING, OUTGOING, SCRIPT = "/tmp/.stratovirt-in", "/tmp/.stratovirt-out", "/tmp/.stratovirt-script"
INTERRUPT, END_OF_FILE = b"\x03", b"\x04"


class GuestError(AssertionError):
    """The guest could not do what was asked: a command has failed, a file is missing, a disk is full."""


@dataclass(frozen=True)
class Result:
    """What a command did.

    :ivar output: its standard output and error.
    :ivar status: its exit status, 0 to 255.
    """

    output: str
    status: int

    def check(self) -> str:
        """The output of a command that had to succeed.

        :raises GuestError: it did not.
        """
        if self.status != 0:
            raise GuestError(f"exit status {self.status}: {self.output}")
        return self.output


class Shell:
    """The shell at ``console``, which has printed its prompt."""

    def __init__(self, console: GuestConsole) -> None:
        self._console = console

    async def run(self, command: str, *, seconds: float = PATIENCE) -> Result:
        """Run ``command`` in a shell of its own, with an empty standard input, and wait for its end.

        As over ssh, it ends with the last process that holds its output: redirect that of one that stays.

        :raises AssertionError: it did not end in time; it is interrupted, so that the next can run.
        """
        if len(command.encode()) > TYPED_LIMIT or not command.isprintable():
            await self.push(SCRIPT, command.encode())
            command = f". {SCRIPT}"
        captured = f"{{ sh -c {shlex.quote(command)} </dev/null 2>&1; echo $? >{STATUS}; }} | tee {OUTPUT}"
        async with self._turn(f"{captured}; d=$(sha256sum <{OUTPUT}) s=$(cat {STATUS})", seconds) as turn:
            output, digest, status = await turn.end()
        if hashlib.sha256(output).hexdigest() != digest:
            output = await self._slices(OUTPUT)
        return Result(output.decode(errors="replace"), status)

    async def push(self, path: str, data: bytes) -> None:
        """Write ``data`` to the file ``path`` in the guest.

        :raises GuestError: the guest cannot write it.
        """
        target = shlex.quote(path)
        (await self.run(f": >{target}")).check()
        for start in range(0, len(data), SLICE):
            await self._send(data[start : start + SLICE])
            (await self.run(f"cat {INCOMING} >>{target}")).check()

    async def pull(self, path: str) -> bytes:
        """The content of the file ``path`` in the guest.

        :raises GuestError: the guest cannot read it.
        """
        (await self.run(f"cat {shlex.quote(path)} >{OUTGOING}")).check()
        return await self._slices(OUTGOING)

    async def _slices(self, path: str) -> bytes:
        slices = [await self._fetch(path, 0)]
        while len(slices[-1]) == SLICE:
            slices.append(await self._fetch(path, len(slices)))
        return b"".join(slices)

    async def _fetch(self, path: str, number: int) -> bytes:
        """One slice of a file; less than SLICE, perhaps nothing, at its end."""
        part = f"dd if={path} bs={SLICE} skip={number} count=1 2>/dev/null"
        for _ in range(ATTEMPTS):
            async with self._turn(f"{part} | base64; d=$({part} | sha256sum) s=$?") as turn:
                text, digest, _ = await turn.end()
            data = _decoded(text)
            if hashlib.sha256(data).hexdigest() == digest:
                return data
        raise GuestError(f"{path} arrived damaged {ATTEMPTS} times: does a program write to the console?")

    async def _send(self, data: bytes) -> None:
        """Leave one slice in INCOMING."""
        text = base64.b64encode(data)
        lines = b"".join(text[at : at + LINE] + b"\n" for at in range(0, len(text), LINE))
        for _ in range(ATTEMPTS):
            async with self._turn(f"base64 -d >{INCOMING}; s=$? d=$(sha256sum <{INCOMING})") as turn:
                await self._console.send(lines + END_OF_FILE)
                _, digest, _ = await turn.end()
            if hashlib.sha256(data).hexdigest() == digest:
                return
        raise GuestError(
            f"a file arrived damaged {ATTEMPTS} times: does the guest have base64, and room in /tmp?"
        )

    @asynccontextmanager
    async def _turn(self, body: str, seconds: float = PATIENCE) -> AsyncIterator[_Turn]:
        """A line of shell that has begun; it may read the console, and sets a status $s and a digest $d."""
        mark = secrets.token_hex(4)
        try:
            with trio.fail_after(seconds):
                await self._console.type(
                    f't={mark}; stty -echo; echo "begin $t"; {body}; echo; stty echo; echo "end $t $d $s"'
                )
                while not (await self._console.line()).endswith(f"begin {mark}".encode()):
                    pass
                yield _Turn(self._console, mark)
        except trio.TooSlowError:
            await self._console.send(INTERRUPT)
            raise AssertionError(f"no end of {body!r} within {seconds:g} s: {self._console.tail()}") from None


class _Turn:
    """A line of shell that runs at the console."""

    def __init__(self, console: GuestConsole, mark: str) -> None:
        self._console = console
        self._mark = mark

    async def end(self) -> tuple[bytes, str, int]:
        """What it printed, the digest and the exit status."""
        end = f"end {self._mark} ".encode()
        lines: list[bytes] = []
        while not (line := await self._console.line()).startswith(end):
            lines.append(line)
        digest, *_, status = line.removeprefix(end).decode().split()
        return b"\n".join(lines), digest, int(status)


def _decoded(text: bytes) -> bytes:
    """Base64 as it came; nothing if a program has written into it so that it is none."""
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return b""
