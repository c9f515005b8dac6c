"""A guest's head start: it runs while the tree that will supervise it is still being loaded.

The law: the tree finds what it would have found had it run the guest itself. How the head start ended, its
failure, and what the guest asked of the power line are kept, and told on the supervised thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future

from stratovirt.accel.protocol import RunEnd, Vcpu, VcpuThread
from stratovirt.machine.events import Cause
from stratovirt.machine.power import PowerLine


class HeadStart:
    """The body of a vCPU's thread, begun at once in a thread of ``executor``; a :class:`VcpuThread` itself.

    Whoever is to supervise it calls :meth:`stop` first, and then connects the power line.
    """

    def __init__(self, thread: VcpuThread, power: PowerLine, executor: Executor) -> None:
        self._thread = thread
        self._power = power
        self._asked: Cause | None = None
        power.connect(self._guest_asked)
        self._first: Future[RunEnd] | None = executor.submit(thread.run)

    @property
    def name(self) -> str:
        """See :class:`VcpuThread`."""
        return self._thread.name

    @property
    def vcpus(self) -> Sequence[Vcpu]:
        """See :class:`VcpuThread`."""
        return self._thread.vcpus

    def stop(self) -> None:
        """End the head start; returns when nobody runs guest code. Any thread."""
        self._thread.kick()
        if self._first is not None:
            self._first.exception()

    def run(self) -> RunEnd:
        """Tell how the head start ended; from then on the thread's own :meth:`VcpuThread.run`."""
        if self._first is None:
            return self._thread.run()
        first, self._first = self._first, None
        if self._asked is not None:
            self._power.tell(self._asked)
        return first.result()

    def kick(self) -> None:
        """See :class:`VcpuThread`."""
        self._thread.kick()

    def _guest_asked(self, cause: Cause) -> None:
        """On the vCPU thread: not another instruction until somebody can obey."""
        self._asked = self._asked or cause
        self._thread.kick()
