"""What a start does while trio is still being imported: read the kernel and build the machine.

Importing trio takes 0.1 s of Python; decompressing a kernel and mapping the accelerator take as long,
in C. So the machine is built in a plain thread, the only one that the tree does not start itself: who
enters the ``with`` block waits for it at the end.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from stratovirt.accel.choose import choose
from stratovirt.boot.plan import BootRequest, plan
from stratovirt.cli import Config
from stratovirt.errors import OptionError
from stratovirt.machine.microvm import Microvm, MicrovmSpec


class Preparation:
    """Builds the machine of ``options`` in a thread, beside the ``with`` block.

    The accelerator is chosen at once: ``accelerator`` says which and why.

    :raises AcceleratorUnavailable: the one asked for cannot be had.
    """

    def __init__(self, options: Config) -> None:
        self.accelerator = choose(options.machine.accel)
        self._options = options
        self._executor = ThreadPoolExecutor(1, "prepare")
        self._board: Future[Microvm | None] = Future()
        self._is_taken = False

    def __enter__(self) -> Preparation:
        self._board = self._executor.submit(self._build)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._executor.shutdown()
        if not self._is_taken and not self._board.exception():
            board = self._board.result()
            if board is not None:
                board.close()

    def take_board(self) -> Microvm | None:
        """Wait for the board, to be closed by the caller; None for ``-machine none``, which has none.

        :raises ConfigError: it cannot be built as asked for.
        """
        self._is_taken = True
        return self._board.result()

    def _build(self) -> Microvm | None:
        if self._options.machine.type == "none":
            return None
        request = boot_request(self._options)
        boot_plan = plan(request)  # before the board: what it refuses is refused without guest memory
        return Microvm(MicrovmSpec(self.accelerator, request), boot_plan)


def boot_request(options: Config) -> BootRequest:
    """What ``options`` say about booting.

    :raises OptionError: there is nothing to boot.
    """
    if options.kernel is None:
        raise OptionError("-kernel", "missing; the microvm machine boots a kernel: -kernel FILE")
    return BootRequest(
        kernel=options.kernel,
        initrd=options.initrd,
        cmdline=options.append or "",
        memory_size=options.memory,
        cpus=options.smp.cpus,
        acpi=options.machine.acpi,
    )
