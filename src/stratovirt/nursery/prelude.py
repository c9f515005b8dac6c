"""What a start does while trio is still being imported: read the kernel, load the accelerator.

Importing trio takes 0.1 s of Python; decompressing a kernel takes as long, in C. So the boot is planned in
a plain thread, the only one that the tree does not start itself; once everything else is claimed, the same
thread builds the machine. Who enters the ``with`` block waits for it at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from stratovirt.accel import choose
from stratovirt.accel.features import FEATURES, Features
from stratovirt.accel.topology import MAX_APIC_ID, Topology
from stratovirt.boot.plan import BootPlan, BootRequest, plan
from stratovirt.boot.platform import virtio_slots
from stratovirt.cli import Config
from stratovirt.cli.config import Cpu, Smp
from stratovirt.cli.wording import nearest
from stratovirt.devices.virtio.device import VirtioDevice
from stratovirt.errors import ImageError, OptionError
from stratovirt.machine.microvm import Microvm
from stratovirt.nursery.plugging import slot_count
from stratovirt.nursery.ram import Allocate


class Preparation:
    """Prepares the machine of ``options`` in a thread, beside the ``with`` block.

    In this order: :meth:`check`, :meth:`build`, :meth:`take_board`. The accelerator is chosen at once:
    ``accelerator`` says which and why.

    :raises AcceleratorUnavailable: the one asked for cannot be had.
    """

    def __init__(self, options: Config) -> None:
        self.accelerator = choose.choose(options.machine.accel)
        self._options = options
        self._executor = ThreadPoolExecutor(1, "prepare")
        self._board: Future[Microvm] | None = None

    def __enter__(self) -> Preparation:
        self._plan = self._executor.submit(self._make_plan)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._executor.shutdown()
        if self._board is not None and not self._board.exception():
            self._board.result().close()

    def check(self) -> None:
        """Wait until it is known whether this machine can be booted.

        :raises ConfigError: it cannot.
        """
        self._plan.result()

    def build(self, virtio: Sequence[VirtioDevice], ram: Allocate) -> None:
        """Begin to build the board with these devices: from here on there is guest memory."""
        boot_plan = self._plan.result()
        if boot_plan is not None:
            self._board = self._executor.submit(Microvm, self.accelerator, boot_plan, virtio, ram)

    def take_board(self) -> Microvm | None:
        """Wait for the board, to be closed by the caller; None for ``-machine none``, which has none.

        :raises ConfigError: the host refuses it.
        """
        board, self._board = self._board, None
        return board.result() if board is not None else None

    def _make_plan(self) -> BootPlan | None:
        if self._options.machine.type == "none":
            return None
        choose.load(self.accelerator, self._options.smp.cpus)
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
