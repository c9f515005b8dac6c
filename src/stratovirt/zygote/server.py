"""``stratovirt --zygote SOCKET``: a process with all modules loaded, forked for each machine asked for.

The law: it holds no machine, no guest memory and no guest, and never reads what a client says: the fork does.
So nothing that one client or one machine does reaches another. Its machines end with it.
"""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import stratovirt
from stratovirt.accel.tcg import library
from stratovirt.chardev.unix import UnixServer
from stratovirt.errors import AcceleratorUnavailable
from stratovirt.nursery import signalmask
from stratovirt.qmp import schemas
from stratovirt.zygote import fork, request

OTHERS = ("stratovirt.tools", "stratovirt.testing", "stratovirt.client", "stratovirt.zygote")
"""What no machine needs."""
WORKSHOP = ("_build", "__main__")
END_SECONDS = 15.0
"""That machines are given to end after SIGTERM; the longest of their own deadlines is 10."""
REST_SECONDS = 0.1
"""Without listening, when a client could not be accepted: mostly there is no descriptor left for it."""
EXIT_BROKEN = 1

Main = Callable[[list[str]], int]


def preload() -> None:
    """Load what a machine may need, and have no garbage to collect in any of them."""
    for module in pkgutil.walk_packages(stratovirt.__path__, "stratovirt.", onerror=_raise):
        if not module.name.startswith(OTHERS) and not module.name.endswith(WORKSHOP):
            importlib.import_module(module.name)
    for name in ("lz4.block", "zstandard"):  # kernels
        importlib.import_module(name)
    schemas.load().all()
    with suppress(AcceleratorUnavailable):  # a machine that wants it says what is wrong with it
        library.load()
    gc.collect()
    gc.freeze()


def _raise(name: str) -> None:
    raise ImportError(name)


def serve(path: str, main: Main) -> int:
    """Serve until a signal ends it; the exit code.

    :param main: what a machine does with its command line.
    :raises ConfigError: no socket can be had at ``path``.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would leave no exit status to report
    server = UnixServer("zygote", path)
    server.open()
    try:
        preload()
        with _woken_by_signals() as wakeup:
            Zygote(server.listening, wakeup, main).run()
    finally:
        server.close()
    return 0


@contextmanager
def _woken_by_signals() -> Iterator[socket.socket]:
    """A socket that signals can be read from; the machines start without it."""
    reading, writing = socket.socketpair()
    with reading, writing:
        reading.setblocking(False)
        writing.setblocking(False)
        for number in signalmask.ENDING:
            signal.signal(number, lambda _number, _frame: None)
        signal.set_wakeup_fd(writing.fileno())
        mask = signalmask.let_through()
        try:
            yield reading
        finally:
            signalmask.put_back(mask)
            signal.set_wakeup_fd(-1)


class Machine:
    """A process that was forked, and the client that waits for it.

    :raises OSError: there can be no pidfd of the process, which is ended for that.
    """

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.connection = connection
        try:
            self.pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise

    def tell(self, message: bytes, *descriptors: int) -> None:
        """Say something to the client, if it is still there."""
        with suppress(OSError):
            socket.send_fds(self.connection, [message], descriptors)

    def kill(self, number: int) -> None:
        """Send a signal."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def close(self) -> None:
        """Let go of it, alive or not."""
        os.close(self.pidfd)
        self.connection.close()


class Zygote:
    """Forks machines, and reports their ends.

    :param wakeup: readable when a signal has come that ends it.
    """

    def __init__(self, listening: socket.socket, wakeup: socket.socket, main: Main) -> None:
        self._listening = listening
        self._wakeup = wakeup
        self._main = main
        self._poll = select.poll()
        self._resting = False
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._machines: dict[int, Machine] = {}  # by pidfd
        self._clients: dict[int, Machine] = {}  # by connection

    def run(self) -> None:
        """Serve; at the end, end all machines and wait for them."""
        _, most = self._limits
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each machine takes two descriptors
        self._poll.register(self._listening, select.POLLIN)
        self._poll.register(self._wakeup, select.POLLIN)
        while not self._ending(None):
            pass
        self._rest(False)
        self._poll.unregister(self._listening)
        self._poll.unregister(self._wakeup)
        for machine in self._machines.values():
            machine.kill(signal.SIGTERM)
        deadline = time.monotonic() + END_SECONDS
        while self._machines and (left := deadline - time.monotonic()) > 0:
            self._ending(left)
        for machine in self._machines.values():
            machine.kill(signal.SIGKILL)
        while self._machines:
            self._ending(None)

    def _ending(self, seconds: float | None) -> bool:
        """Handle what happens next; has a signal come?"""
        if self._resting:
            seconds = REST_SECONDS
        events = self._poll.poll(None if seconds is None else seconds * 1000)
        self._rest(False)
        for fd, _ in events:
            if fd == self._wakeup.fileno():
                return True
            if fd == self._listening.fileno():
                self._accept()
            elif fd in self._machines:
                self._ended(self._machines[fd])
            elif fd in self._clients:
                self._left(self._clients[fd])
        return False

    def _rest(self, resting: bool) -> None:
        """Do not listen until something happens, or :data:`REST_SECONDS` are over; or listen again."""
        if resting != self._resting:
            self._resting = resting
            self._poll.modify(self._listening, 0 if resting else select.POLLIN)

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except OSError:
            self._rest(True)
            return
        try:
            machine = self._fork(connection)
        except OSError as error:
            reason = f"the zygote cannot start a machine: {error.strerror}"
            print(f"stratovirt: --zygote: {reason}", file=sys.stderr)
            with connection, suppress(OSError):
                connection.sendall(reason.encode())
            return
        self._machines[machine.pidfd] = self._clients[connection.fileno()] = machine
        self._poll.register(machine.pidfd, select.POLLIN)
        self._poll.register(connection, select.POLLRDHUP)
        machine.tell(b"\0", machine.pidfd)

    def _fork(self, connection: socket.socket) -> Machine:
        zygote, mask = os.getpid(), signalmask.block()  # a machine's signals must not reach our handlers
        try:
            pid = os.fork()
        finally:
            if os.getpid() == zygote:
                signalmask.put_back(mask)
        if pid == 0:
            self._become(connection, zygote)
        return Machine(pid, connection)

    def _left(self, machine: Machine) -> None:
        """The client has gone, as a terminal hangs up."""
        self._poll.unregister(machine.connection)
        del self._clients[machine.connection.fileno()]
        machine.kill(signal.SIGHUP)

    def _ended(self, machine: Machine) -> None:
        _, status = os.waitpid(machine.pid, 0)
        machine.tell(status.to_bytes(4, "little"))
        self._poll.unregister(machine.pidfd)
        del self._machines[machine.pidfd]
        if self._clients.pop(machine.connection.fileno(), None) is not None:
            self._poll.unregister(machine.connection)
        machine.close()

    def _become(self, connection: socket.socket, zygote: int) -> None:
        """In the fork: be the machine, and nothing of the zygote any more. Never returns."""
        code = EXIT_BROKEN
        try:
            fork.forget_signals()
            for each in (self._listening, self._wakeup):
                each.close()
            for machine in self._machines.values():
                machine.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)
            fork.take_on(connection)
            fork.end_with(zygote)
            code = self._main(sys.argv[1:])
        except request.BadRequest as error:
            print(f"stratovirt: --zygote: a client's request is bad: {error}", file=sys.stderr)
        except BaseException:  # noqa: BLE001 -- whatever it is, it ends here, not in the zygote's loop
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(code)
