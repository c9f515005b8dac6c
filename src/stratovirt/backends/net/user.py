"""User networking: passt, a program that turns a guest's frames into the sockets of an ordinary user.

The law: passt lives as long as the socket between it and us. It ends when that is closed, by whatever death.

Source: passt(1).
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from stratovirt.backends.net.stream import NO_HEADER, StreamPort
from stratovirt.errors import ConfigError

PROGRAM = "passt"
MTU = 65520
"""What passt tells guests by DHCP; there is no wire between, so nothing is gained by less."""
START_SECONDS = 5
"""Until passt answers or says why it does not; it takes 0.03."""
END_SECONDS = 2
OUTPUT_LIMIT = 65536
SYSLOG_COMPLAINT = "Failed to send "
"""Begins what passt says, line by line, where there is no syslog to say it to."""

# Behind a header, an ARP probe (RFC 5227) from a guest's first MAC for 0.0.0.1, which passt answers as any.
_PROBE = NO_HEADER + bytes.fromhex(
    "ffffffffffff 525400123456 0806"
    "0001 0800 06 04 0001 525400123456 00000000 000000000000 00000001"
)  # fmt: skip


class Forward(NamedTuple):
    """A port of the host's whose connections or datagrams go to the guest.

    :ivar address: of the host's to listen on; empty: all.
    """

    protocol: str
    address: str
    port: int
    guest_port: int

    def argument(self) -> list[str]:
        """As passt takes it."""
        where = f"{self.address}/" if self.address else ""
        return ["-t" if self.protocol == "tcp" else "-u", f"{where}{self.port}:{self.guest_port}"]


class UserNet:
    """A passt of our own. Implements :class:`stratovirt.devices.virtio.net.NetBackend`.

    :raises ConfigError: it is not installed, or cannot start.
    :ivar closing: passt's end is in order.
    """

    mtu = MTU

    def __init__(self, forwards: Sequence[Forward] = ()) -> None:
        program = shutil.which(PROGRAM)
        if program is None:
            raise ConfigError("user networking needs passt: install the Debian package passt")
        with ExitStack() as opened:
            near, far = socket.socketpair()
            port = StreamPort(near)
            opened.callback(port.close)
            with far:
                self._output, theirs = os.pipe()
                opened.callback(os.close, self._output)
                try:
                    self._process = _start(program, far, theirs, forwards)
                finally:
                    os.close(theirs)
            opened.callback(self._end)
            _wait_until_ready(port, self._output)
            opened.pop_all()
        self.ports = [port]
        self.closing = False

    def describe(self) -> str:
        """As ``info network`` shows it."""
        return f"user,passt={self._process.pid}"

    def take_output(self) -> int:
        """The descriptor at which its words arrive, to be closed by the caller."""
        return os.dup(self._output)

    def set_offloads(self, *, checksum: bool, tso4: bool, tso6: bool, ecn: bool) -> None:
        """Nothing: what passt sends is complete, and no larger than the guest's MSS."""

    def set_queues(self, count: int) -> None:
        """Nothing: there is one."""

    def close(self) -> None:
        """End passt."""
        self.closing = True
        self.ports[0].close()
        self._end()
        os.close(self._output)

    def _end(self) -> None:
        """Wait for the end, which the closed socket brings about."""
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _start(
    program: str, connection: socket.socket, output: int, forwards: Sequence[Forward]
) -> subprocess.Popen[bytes]:
    fd = connection.fileno()
    options = [argument for forward in forwards for argument in forward.argument()]
    return subprocess.Popen(
        [program, "--foreground", "--stderr", "--quiet", "--fd", str(fd), *options],
        pass_fds=[fd],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,  # a terminal's Ctrl-c is for the machine, which ends passt
    )


def _wait_until_ready(port: StreamPort, output: int) -> None:
    """Ask until passt answers.

    :raises ConfigError: it ends instead; the text is its last words.
    """
    said = b""
    sources = [port.fd, output] if _asked(port) else [output]
    deadline = time.monotonic() + START_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        readable = select.select(sources, [], [], left)[0]
        if port.fd in readable:
            try:
                if port.receive([memoryview(bytearray(MTU))]):
                    return
            except OSError:
                sources = [output]
        elif output in readable:
            more = os.read(output, OUTPUT_LIMIT)
            said = (said + more)[-OUTPUT_LIMIT:]
            if not more:
                raise ConfigError(f"passt does not start: {last_words(said)}")


def _asked(port: StreamPort) -> bool:
    """Send the probe; False: nobody is there any more."""
    try:
        return port.send([memoryview(_PROBE)])
    except OSError:
        return False


def last_words(said: bytes) -> str:
    """The last line of what passt has printed that means something."""
    lines = said.decode(errors="replace").splitlines()
    words = [line.strip() for line in lines if line.strip() and not line.startswith(SYSLOG_COMPLAINT)]
    return words[-1] if words else "it has ended without a word"
