"""Which accelerator runs the guest, and why.

The law: an implementation is imported only once it is needed, so that a run under one never loads the
other. ``kvm`` is a demand and fails where it cannot be met; ``kvm:tcg`` is a preference and falls back to
the software CPU with a reason, also where KVM is there but only emulates guest kernels.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

from stratovirt.accel.features import UNCHANGED, Features
from stratovirt.accel.protocol import Accelerator, Bus
from stratovirt.accel.topology import Topology
from stratovirt.errors import AcceleratorError, AcceleratorUnavailable
from stratovirt.memory import GuestMemory

EMULATING_MODULE = Path("/sys/module/kvm_pvm")
"""There when /dev/kvm is PVM's: KVM without hardware virtualization, which emulates guest kernel mode."""

Name = Literal["kvm", "tcg"]


@dataclass(frozen=True)
class Choice:
    """An accelerator, and what spoke for it. ``str()`` is the line for the log."""

    name: Name
    reason: str

    def __str__(self) -> str:
        return f"accelerator: {self.name} ({self.reason})"


def choose(wanted: str) -> Choice:
    """Settle on an accelerator.

    :param wanted: ``kvm``, ``tcg``, or ``kvm:tcg`` for the first that runs guest kernels natively.
    :raises AcceleratorUnavailable: ``kvm`` alone is wanted and cannot be had.
    :raises ValueError: ``wanted`` is none of these.
    """
    match wanted:
        case "tcg":
            return Choice("tcg", "as asked for")
        case "kvm":
            _load("kvm", "system").KvmSystem().close()  # raises what is wrong with it
            return Choice("kvm", "as asked for")
        case "kvm:tcg":
            return _first_native()
        case _:
            raise ValueError(f"no accelerator is called {wanted!r}")


def load(choice: Choice, vcpus: int) -> None:
    """Import what :func:`create` needs, so that it is quick, and see whether it can have so many vCPUs.

    :raises AcceleratorUnavailable: this installation cannot run it, or not with so many.
    """
    module = _load(choice.name, "accelerator")
    if vcpus > module.MAX_VCPUS:
        raise AcceleratorUnavailable(f"accel {choice.name}: at most {module.MAX_VCPUS} vCPUs, not {vcpus}")


def create(
    choice: Choice,
    memory: GuestMemory,
    vcpus: int,
    bus: Bus,
    topology: Topology | None = None,
    features: Features = UNCHANGED,
) -> Accelerator:
    """Make the accelerator chosen.

    :param topology: where the ``vcpus`` sit, with places enough; unless said, all are cores of one socket.
    :param features: what their CPUID says.
    :raises AcceleratorUnavailable: this host or this installation cannot run it, or has not all features.
    """
    module = _load(choice.name, "accelerator")
    make = module.KvmAccelerator if choice.name == "kvm" else module.TcgAccelerator
    accelerator: Accelerator = make(memory, vcpus, bus, topology, features)
    return accelerator


def _first_native() -> Choice:
    if EMULATING_MODULE.exists():
        return Choice("tcg", f"{EMULATING_MODULE.name} emulates guest kernels, which is slower still")
    try:
        native = _load("kvm", "probe").runs_kernels_natively()
    except (AcceleratorUnavailable, AcceleratorError) as error:
        return Choice("tcg", str(error))
    if native:
        return Choice("kvm", "it runs guest kernels natively")
    return Choice("tcg", "the host's KVM emulates guest kernels, which is slower still")


def _load(name: Name, module: str) -> ModuleType:
    """Import a module of accelerator ``name``; its C extension comes with it.

    :raises AcceleratorUnavailable: the extension is not built, or does not load.
    """
    try:
        return importlib.import_module(f"stratovirt.accel.{name}.{module}")
    except ImportError as error:
        raise AcceleratorUnavailable(
            f"accelerator {name} is not built ({error.msg}): run 'make setup'"
        ) from error
