"""From ``-incoming`` to what a machine is made of: the snapshot's RAM, its state, and how it was booted.

The law: the snapshot is opened for reading only, and what can be refused without a machine is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from stratovirt.boot.plan import BootPlan, BootRequest, plan_reset
from stratovirt.cli import Config
from stratovirt.errors import OptionError, SnapshotError
from stratovirt.machine import facts
from stratovirt.memory import GuestMemory
from stratovirt.memory.template import map_template, read_template
from stratovirt.migration.reader import Snapshot, open_snapshot
from stratovirt.nursery.ram import Allocate, Backing, allocate, claim_ram
from stratovirt.vmstate import Section

RequestFor = Callable[[Config], BootRequest]


class Incoming:
    """The snapshot that a machine begins with.

    :raises OptionError: it cannot be read, or is not of a machine like this one.
    """

    def __init__(self, options: Config) -> None:
        assert options.incoming is not None
        self._options = options
        self._mapped = options.incoming.mapped
        self.about = f"-incoming file:{options.incoming.directory}"
        try:
            self._snapshot: Snapshot = open_snapshot(options.incoming.directory)
        except SnapshotError as error:
            raise OptionError(self.about, str(error)) from error
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    @property
    def sections(self) -> Sequence[Section]:
        """Of the machine's state."""
        return self._snapshot.sections

    def close(self) -> None:
        """Close its files; RAM stays mapped."""
        self._snapshot.close()

    def boot_plan(self, request_for: RequestFor) -> BootPlan:
        """What a reset boots: what the command line says, or else what the machine was booted with.

        :param request_for: what a command line says about booting.
        """
        boot = self._facts["boot"]
        options = self._options
        if options.kernel is None:
            options = options._replace(kernel=boot["kernel"], initrd=boot["initrd"], append=boot["cmdline"])
        return plan_reset(request_for(options), boot["acpi"])

    def claim_ram(self, claimed: ExitStack) -> Allocate:
        """How RAM is made that holds the snapshot's.

        :raises OptionError: RAM is to stand on something else, or cannot be had.
        """
        if not self._mapped:
            return partial(self._copy, claim_ram(self._options, claimed))
        for option, given in (
            ("-mem-path", self._options.mem_path is not None),
            ("-machine mem-share=on", self._options.machine.mem_share),
            ("-machine memory-backend", self._options.machine.memory_backend is not None),
        ):
            if given:
                raise OptionError(option, "RAM is the snapshot's own; with mapped=off it is copied")
        backing = Backing(self.about, None, share=False, prealloc=self._options.mem_prealloc)
        source = partial(map_template, self._snapshot.memory_fd)
        return partial(allocate, backing, self._options.machine.dump_guest_core, source)

    def _check(self) -> None:
        try:
            self._facts = facts.read(self.sections)
        except SnapshotError as error:
            raise OptionError(self.about, str(error)) from error
        there, here = self._snapshot.memory_size, self._options.memory
        if there != here:
            raise OptionError(self.about, f"saved with {there >> 20} MiB of RAM; -m says {here >> 20}")

    def _copy(self, made: Allocate, size: int) -> GuestMemory:
        memory = made(size)
        try:
            read_template(self._snapshot.memory_fd, memory)
        except OSError as error:
            memory.close()
            raise OptionError(self.about, f"memory: {error.strerror}") from error
        return memory
