"""No -device is parsed and then forgotten: it has a slot and who makes it, or it is refused."""

from __future__ import annotations

from stratovirt.cli.devices import DEVICE
from stratovirt.cli.notbuilt import NOT_BUILT
from stratovirt.nursery.plugging import MAKERS
from stratovirt.nursery.slots import BLOCK_DRIVER, FIXED_DRIVERS, NET_DRIVER

WITHOUT_SLOT = "virtconsole"  # it is a port of its virtio-serial-device


def test_each_driver_of_the_command_line_is_plugged_or_refused() -> None:
    refused = [capability.part for capability in NOT_BUILT if capability.option == "device"]
    plugged = [BLOCK_DRIVER, NET_DRIVER, WITHOUT_SLOT, *FIXED_DRIVERS]
    assert sorted([*plugged, *refused]) == sorted(DEVICE.kinds)


def test_each_device_that_stays_is_made() -> None:
    assert MAKERS.keys() == {*FIXED_DRIVERS}
