"""What managers are told of a run is what its command line says, and no option that is refused."""

from __future__ import annotations

import os

from stratovirt.cli import Config, parse
from stratovirt.cli.notbuilt import NOT_BUILT
from stratovirt.cli.options import OPTIONS
from stratovirt.nursery.describe import catalog, machine_info

KERNEL = ["-kernel", "k"]


def parsed(*words: str) -> Config:
    options = parse([*KERNEL, *words])
    assert isinstance(options, Config)
    return options


def test_a_machine_is_described_by_its_options() -> None:
    options = parsed("-name", "vm", "-smp", "2,maxcpus=4,sockets=2,cores=2", "-m", "300")
    info = machine_info(options, "tcg")
    assert (info.name, info.uuid, info.accelerator) == ("vm", None, "tcg")
    assert (info.memory, info.vcpus, info.topology.places) == (300 << 20, 2, 4)


def test_a_machine_that_runs_no_guest_has_neither_memory_nor_vcpus() -> None:
    info = machine_info(parsed("-machine", "none", "-smp", "4"), "kvm")
    assert (info.memory, info.vcpus) == (0, 0)


def test_the_catalog_lists_each_option_that_is_built_and_no_other() -> None:
    names = {option.name for option in catalog().options}
    whole = {capability.option for capability in NOT_BUILT if not capability.part}
    early = {option.names[0] for option in OPTIONS.values() if option.early}
    assert names == {option.names[0] for option in OPTIONS.values()} - whole - early


def test_each_machine_of_the_catalog_can_be_asked_for_and_one_is_the_default() -> None:
    machines = catalog().machines
    for machine in machines:
        assert parsed("-machine", machine.name).machine.type == machine.name
    assert [machine.name for machine in machines if machine.is_default] == [Config().machine.type]


def test_every_type_of_the_catalog_has_a_parent_that_is_there() -> None:
    types = catalog().types
    assert {kind.parent for kind in types} <= {"object", *(kind.name for kind in types if kind.abstract)}


def test_kvm_is_present_when_this_process_may_open_it() -> None:
    assert catalog().kvm_present == os.access("/dev/kvm", os.R_OK | os.W_OK)
