"""Images in QEMU's formats, read and written by QEMU's own code: a qemu-storage-daemon per image.

The law: the daemon lives as long as the disk. It is told to end when the disk is closed, and the kernel ends
it when this process dies by whatever death. When it dies first, each request is an I/O error.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeAlias

from stratovirt.backends.disk.contract import SECTOR
from stratovirt.backends.disk.nbd import NbdConnection, NbdError
from stratovirt.backends.disk.options import DiskOptions
from stratovirt.errors import ConfigError

log = logging.getLogger(__name__)

PROGRAM = "qemu-storage-daemon"
PACKAGE = "qemu-system-common"
EXPORT = "disk"
START_SECONDS = 10
"""Until it answers or says why it does not; it takes 0.02."""
END_SECONDS = 10
"""Until it has flushed and ended."""
OUTPUT_LIMIT = 64 << 10

Process: TypeAlias = "subprocess.Popen[bytes]"  # by its name: most machines never load the module
Starter = Callable[[Callable[[], Process]], Process]


class ServedDisk:
    """Implements :class:`stratovirt.backends.disk.contract.Disk`.

    :param start: calls what it is given on a thread that lives as long as the process, for a child's
        death signal is bound to the thread that started it (prctl(2), PR_SET_PDEATHSIG).
    :raises ConfigError: the image cannot be used, or the daemon cannot be had; the text starts with
        ``filename``.
    :ivar closing: the daemon's end is in order.
    """

    file = None

    def __init__(self, filename: str, format: str, options: DiskOptions, start: Starter) -> None:
        with ExitStack() as opened:
            self._output, theirs = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)  # neither side waits for the other
            opened.callback(os.close, self._output)
            with open(theirs, "wb"), _listener() as listener:
                self._socket = opened.enter_context(socket.socket(socket.AF_UNIX))
                self._socket.connect(listener.getsockname())
                command = _command(filename, format, options, listener.fileno())
                self._process = start(lambda: _start(command, listener.fileno(), theirs))
            opened.callback(self._end)
            self._nbd = self._negotiate(filename)
            opened.pop_all()
        self._options = options
        self.closing = False
        self.size = self._nbd.size - self._nbd.size % SECTOR
        self.read_only = options.read_only
        self.iops = options.iops

    def take_output(self) -> int:
        """The descriptor at which the daemon's words arrive, to be closed by the caller."""
        return os.dup(self._output)

    def read(self, offset: int, segments: Sequence[memoryview]) -> None:
        """See :class:`Disk`."""
        self._nbd.read(offset, segments)

    def write(self, offset: int, segments: Sequence[memoryview]) -> None:
        """See :class:`Disk`."""
        self._nbd.write(offset, segments)

    def flush(self) -> None:
        """See :class:`Disk`."""
        self._nbd.flush()

    def discard(self, offset: int, length: int) -> None:
        """See :class:`Disk`."""
        if self._options.discard:
            self._nbd.trim(offset, length)

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        """See :class:`Disk`."""
        self._nbd.write_zeroes(offset, length, unmap=unmap and self._options.discard)

    def close(self) -> None:
        """See :class:`Disk`."""
        self.closing = True
        with suppress(OSError):
            self._nbd.disconnect()
        self._socket.close()
        self._end()
        os.close(self._output)

    def interrupt(self) -> None:
        """See :class:`Disk`."""
        self._nbd.abandon()

    def _negotiate(self, filename: str) -> NbdConnection:
        self._socket.settimeout(START_SECONDS)
        try:
            nbd = NbdConnection(self._socket, EXPORT)
        except (OSError, NbdError) as error:
            self._end()
            raise ConfigError(f"{filename}: {_problem(self._output, filename) or error}") from error
        self._socket.settimeout(None)
        return nbd

    def _end(self) -> None:
        """End the daemon, which closes the image properly."""
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("%s %d does not end; it is killed", PROGRAM, self._process.pid)
            self._process.kill()
            self._process.wait()


def _command(filename: str, format: str, options: DiskOptions, listener: int) -> list[str]:
    """What starts the daemon.

    :raises ConfigError: it is not installed.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise ConfigError(
            f"{filename}: format {format} needs {PROGRAM}, which is not installed; "
            f"it is in the Debian package {PACKAGE}"
        )
    return [
        *(("env", "--default-signal=TERM") if shutil.which("env") else ()),  # which may be blocked here
        *(("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()),
        program,
        *("--blockdev", json.dumps(_block_node(filename, format, options))),
        *("--nbd-server", f"addr.type=fd,addr.str={listener},max-connections=1"),
        *("--export", f"type=nbd,id={EXPORT},node-name={EXPORT},writable={_switch(not options.read_only)}"),
    ]


def _block_node(filename: str, format: str, options: DiskOptions) -> dict[str, Any]:
    """In the words of qapi/block-core.json, BlockdevOptions."""
    is_device = os.path.exists(filename) and stat.S_ISBLK(os.stat(filename).st_mode)
    return {
        "driver": format,
        "node-name": EXPORT,
        "read-only": options.read_only,
        "cache": {"direct": options.direct, "no-flush": options.no_flush},
        "discard": "unmap" if options.discard else "ignore",
        "detect-zeroes": options.detect_zeroes,
        "file": {"driver": "host_device" if is_device else "file", "filename": filename},
    }


def _switch(on: bool) -> str:
    return "on" if on else "off"


@contextmanager
def _listener() -> Iterator[socket.socket]:
    """A socket for the daemon to listen on; nobody else can connect to it, and after the block nobody can."""
    with (
        tempfile.TemporaryDirectory(prefix="stratovirt-") as directory,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(os.path.join(directory, "nbd"))
        listener.listen(1)
        yield listener


def _start(command: list[str], listener: int, output: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        pass_fds=[listener],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,  # a terminal's Ctrl-c is for the machine, which ends the daemon
    )


def _problem(output: int, filename: str) -> str:
    """What the daemon said first, without what we know: its name, our option, the image's name."""
    try:
        said = os.read(output, OUTPUT_LIMIT).decode(errors="replace").strip()
    except BlockingIOError:
        return ""
    line = re.sub(r"^.*?: --\w+ .*?\}: ", "", said.partition("\n")[0])
    line = line.removeprefix(f"Could not open '{filename}': ")
    return f"in use by another program: {line}" if line.endswith(" lock") else line
