"""What a start does while trio is still being imported: read the kernel, build the machine, run it.

Importing trio takes 0.06 s of Python and more; decompressing a kernel takes as long, in C. So the boot is
planned in a plain thread, the only one that the tree does not start itself. Once everything else is claimed,
the same thread builds the machine and gives the guest its head start. Who enters the ``with`` block waits for
it at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING

from stratovirt.accel import choose
from stratovirt.accel.features import FEATURES, Features
from stratovirt.accel.topology import MAX_APIC_ID, Topology
from stratovirt.boot.plan import BootPlan, BootRequest, plan
from stratovirt.boot.platform import virtio_slots
from stratovirt.cli import Config
from stratovirt.cli.config import Cpu, Smp
from stratovirt.cli.wording import nearest
from stratovirt.errors import ImageError, OptionError, SnapshotError
from stratovirt.native.heap import HeapMark
from stratovirt.nursery.slots import slot_count

if TYPE_CHECKING:
    from contextlib import ExitStack

    from stratovirt.devices.virtio.device import VirtioDevice
    from stratovirt.machine.microvm import Console, Microvm
    from stratovirt.nursery.headstart import HeadStart
    from stratovirt.nursery.ram import Allocate
    from stratovirt.nursery.restoring import Incoming


# A vCPU thread asks for the GIL thousands of times a second, and the default of 5 ms is a whole timer tick.
SWITCH_INTERVAL_SECONDS = 200e-6


class Preparation:
    """Prepares the machine of ``options`` in a thread, beside the ``with`` block.

    In this order: :meth:`check`, :meth:`claim_ram`, :meth:`build`, :meth:`take_board`.
    """

    def __init__(self, options: Config) -> None:
        self._options = options
        self._executor = ThreadPoolExecutor(1, "prepare")
        self._board: Future[Microvm] | None = None
        self._head_start: HeadStart | None = None
        self._incoming: Incoming | None = None
        self._heap: HeapMark | None = None

    def __enter__(self) -> Preparation:
        sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
        self._plan = self._executor.submit(self._make_plan)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.discard_board()
        self._executor.shutdown()
        if self._incoming is not None:
            self._incoming.close()

    @cached_property
    def accelerator(self) -> choose.Choice:
        """Which one is used, and why.

        :raises AcceleratorUnavailable: the one asked for cannot be had.
        """
        return choose.choose(self._options.machine.accel)

    def check(self) -> None:
        """Wait until it is known whether this machine can be booted.

        :raises ConfigError: it cannot.
        """
        if self._options.machine.type != "none":
            choose.load(self.accelerator, self._options.smp.cpus)
        self._plan.result()

    def claim_ram(self, claimed: ExitStack) -> Allocate:
        """How the machine's RAM is made; what that needs of the host is in ``claimed``.

        :raises OptionError: the host does not have it.
        """
        if self._incoming is not None:
            return self._incoming.claim_ram(claimed)
        from stratovirt.nursery.ram import claim_ram

        return claim_ram(self._options, claimed)

    def build(
        self, virtio: Sequence[VirtioDevice], ram: Allocate, console: Console, *, head_start: bool
    ) -> None:
        """Begin to build the board with these devices: from here on there is guest memory.

        :param head_start: let the guest run as soon as it can, until :meth:`take_board`.
        """
        boot_plan = self._plan.result()
        if boot_plan is not None:
            self._board = self._executor.submit(self._make_board, boot_plan, virtio, ram, console, head_start)

    def take_board(self) -> Microvm | None:
        """Wait for the board, to be closed by the caller; None for ``-machine none``, which has none.

        Nobody runs guest code any more when it returns.

        :raises ConfigError: the host refuses it.
        """
        future, self._board = self._board, None
        if future is None:
            return None
        board = future.result()
        if self._head_start is not None:
            self._head_start.stop()
        return board

    def tidy(self) -> None:
        """Give the host back what making the board has left in a heap; takes milliseconds."""
        if self._heap is not None:
            self._heap.give_back()
            self._heap = None

    def discard_board(self) -> None:
        """End the guest's head start and close the board, if nobody has taken it."""
        if self._board is not None and not self._board.exception():
            board = self.take_board()
            assert board is not None
            board.close()

    def _make_board(
        self,
        boot_plan: BootPlan,
        virtio: Sequence[VirtioDevice],
        ram: Allocate,
        console: Console,
        head_start: bool,
    ) -> Microvm:
        from stratovirt.machine.microvm import Microvm
        from stratovirt.nursery.headstart import HeadStart

        board = Microvm(self.accelerator, boot_plan, virtio, ram)
        board.add_console(console)
        try:
            self._begin(board)
        except BaseException:
            board.close()
            raise
        self._heap = HeapMark()
        if head_start:
            self._head_start = HeadStart(board.threads[0], board.power, self._executor)
            board.threads[0] = self._head_start
        return board

    def _begin(self, board: Microvm) -> None:
        """Where the guest begins: at its kernel's entry, or where the snapshot was taken."""
        if self._incoming is None:
            board.boot()
            return
        from stratovirt.machine.sections import load_board

        try:
            load_board(board, self._incoming.sections)
        except SnapshotError as error:
            raise OptionError(self._incoming.about, str(error)) from error

    def _make_plan(self) -> BootPlan | None:
        if self._options.machine.type == "none":
            return None
        if self._options.incoming is not None:
            from stratovirt.nursery.restoring import Incoming

            self._incoming = Incoming(self._options)
            return self._incoming.boot_plan(boot_request)
        request = boot_request(self._options)
        try:
            return plan(request)
        except ImageError as error:
            option = "-initrd" if str(error).startswith(f"{request.initrd}:") else "-kernel"
            raise OptionError.about(option, error) from error


def boot_request(options: Config) -> BootRequest:
    """What ``options`` say about booting.

    :raises OptionError: there is nothing to boot, there are more devices than slots, or more of the topology
        than APIC ids.
    """
    if options.kernel is None:
        raise OptionError("-kernel", "missing; the microvm machine boots a kernel: -kernel FILE")
    topology = topology_of(options.smp)
    highest = max(map(topology.apic_id, range(options.smp.cpus)))
    if highest > MAX_APIC_ID:
        raise OptionError(
            "-smp", f"the last vCPU's APIC id is {highest} in this topology, above {MAX_APIC_ID}"
        )
    return BootRequest(
        kernel=options.kernel,
        initrd=options.initrd,
        cmdline=options.append or "",
        memory_size=options.memory,
        cpus=options.smp.cpus,
        topology=topology,
        features=features_of(options.cpu),
        slots=virtio_slots(slot_count(options)),
        acpi=options.machine.acpi,
    )


def features_of(cpu: Cpu) -> Features:
    """What ``-cpu`` says.

    :raises OptionError: it names a feature that nobody knows.
    """
    for sign, names in (("+", cpu.added), ("-", cpu.removed)):
        for name in names:
            if name not in FEATURES:
                meant = nearest(name, FEATURES)
                hint = f"; did you mean {meant}?" if meant else ""
                raise OptionError(f"-cpu {cpu.model},{sign}{name}", f"no such feature{hint}")
    return Features(cpu.added, cpu.removed)


def topology_of(smp: Smp) -> Topology:
    """Where the vCPUs of ``-smp`` sit."""
    return Topology(smp.sockets, smp.dies, smp.clusters, smp.cores, smp.threads)
