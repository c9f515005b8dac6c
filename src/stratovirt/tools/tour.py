"""``make run``: boot a Debian kernel to a shell on this terminal, or without a terminal play a short tour.

KERNEL=… names another kernel. The tour drives the machine as its users do: a subprocess, its console
and its QMP socket, with nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stratovirt.errors import ConfigError
from stratovirt.tools.guest import cache_directory, publish
from stratovirt.tools.initramfs import build, find_busybox
from stratovirt.tools.kernels import Kernel, any_kernel

APPEND = "console=ttyS0 quiet"
PROMPT = b"guest# "
BOOT_SECONDS = 120
STEP_SECONDS = 30

BANNER = """\
StratoVirt boots {kernel} to a shell on this terminal; Ctrl-a x quits.
Manage it from another terminal:  ncat -U {qmp}
  and type  {{"execute":"query-status"}}
Again, by hand:  {command}
"""


def main() -> int:
    """The exit code of the machine, or of the tour."""
    try:
        kernel, initrd = get_guest()
    except ConfigError as error:
        print(f"stratovirt: {error}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="stratovirt-") as directory:
        qmp = Path(directory, "qmp.sock")
        boot = ["-kernel", str(kernel.image), "-initrd", str(initrd), "-append", APPEND]
        command = [sys.executable, "-m", "stratovirt", *boot, "-qmp", f"unix:{qmp},server,nowait"]
        if sys.stdin.isatty() and sys.stdout.isatty():
            print(BANNER.format(kernel=kernel.image.name, qmp=qmp, command=shlex.join(command)))
            return subprocess.run(command, check=False).returncode
        return Tour(command, Path(directory)).play(kernel.image.name)


def get_guest() -> tuple[Kernel, Path]:
    """A kernel and an initramfs with its modules.

    :raises ConfigError: one of them cannot be had.
    """
    cache = cache_directory(os.environ)
    named = os.environ.get("KERNEL")
    kernel = Kernel.at(Path(named)) if named else any_kernel(cache)
    image = build(kernel, find_busybox(cache))
    return kernel, publish(image, cache / f"initramfs-{kernel.image.name}.cpio")


class Tour:
    """Plays the tour and prints what it does, with the seconds since the machine was started.

    :param command: argv of the machine, with its QMP socket; the tour adds a console socket.
    :param directory: where the sockets are.
    """

    def __init__(self, command: list[str], directory: Path) -> None:
        self._console_path = directory / "console.sock"
        self._qmp_path = directory / "qmp.sock"
        chardev = f"socket,id=console,path={self._console_path},server,nowait"
        self._command = [*command, "-chardev", chardev, "-serial", "chardev:console"]
        self._start = time.monotonic()

    def play(self, kernel: str) -> int:
        """Boot, look around, pause, resume, power down.

        :return: the machine's exit code.
        """
        self.say(f"boot {kernel}, its console and QMP on sockets")
        with subprocess.Popen(self._command) as process:
            try:
                with connected(self._console_path) as console, connected(self._qmp_path) as monitor:
                    self._look_around(Console(console), Qmp(monitor))
                code = process.wait(STEP_SECONDS)
            except BaseException:
                process.kill()
                raise
        self.say(f"the machine has exited with code {code}")
        return code

    def _look_around(self, console: Console, qmp: Qmp) -> None:
        console.expect(PROMPT, BOOT_SECONDS)
        self.say("the guest's shell is up")
        self.say("console: " + console.run("uname -srm"))
        self.say("console: " + console.run("grep MemTotal /proc/meminfo"))
        for command in ("query-status", "stop", "query-status", "cont"):
            self.say(f"QMP {command}: {qmp.execute(command)}")
        self.say("console: " + console.run("echo still here after stop and cont"))
        self.say(f"QMP system_powerdown: {qmp.execute('system_powerdown')}")
        self.say(f"QMP event: {json.dumps(qmp.event('SHUTDOWN'))}")

    def say(self, text: str) -> None:
        """One line of the tour."""
        print(f"{time.monotonic() - self._start:7.2f} s  {text}", flush=True)


class Console:
    """The guest's console at the end of a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._text = b""

    def expect(self, wanted: bytes, seconds: float = STEP_SECONDS) -> bytes:
        """What comes before ``wanted``.

        :raises TimeoutError: it does not come.
        """
        deadline = time.monotonic() + seconds
        while wanted not in self._text:
            self._connection.settimeout(max(0.001, deadline - time.monotonic()))
            received = self._connection.recv(65536)
            if not received:
                raise TimeoutError(f"the console ended before {wanted!r}")
            self._text += received
        before, _, self._text = self._text.partition(wanted)
        return before

    def run(self, line: str) -> str:
        """The output of a shell command."""
        self._connection.sendall(line.encode() + b"\n")
        echoed_and_output = self.expect(PROMPT).decode(errors="replace").splitlines()
        return " | ".join(echoed_and_output[1:])


class Qmp:
    """The smallest QMP client there is: one command, one line."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(STEP_SECONDS)
        self._connection = connection
        self._lines = connection.makefile("r", encoding="utf-8")
        self._events: list[dict[str, Any]] = []
        self._lines.readline()  # the greeting

    def execute(self, command: str) -> str:
        """The reply's ``return``, with the events that came before it."""
        self._connection.sendall(json.dumps({"execute": command}).encode())
        before = len(self._events)
        while "event" in (message := json.loads(self._lines.readline())):
            self._events.append(message)
        names = "".join(f" after {event['event']}" for event in self._events[before:])
        return json.dumps(message["return"]) + names

    def event(self, name: str) -> dict[str, Any]:
        """The next event of that name."""
        while True:
            message: dict[str, Any] = json.loads(self._lines.readline())
            if message.get("event") == name:
                return message


@contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    """A connection to a unix socket that may not be listened on yet.

    :raises TimeoutError: it is not in time.
    """
    deadline = time.monotonic() + STEP_SECONDS
    with socket.socket(socket.AF_UNIX) as connection:
        while True:
            try:
                connection.connect(str(path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"nobody listens on {path}") from None
                time.sleep(0.01)
        yield connection


if __name__ == "__main__":
    sys.exit(main())
