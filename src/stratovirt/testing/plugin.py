"""The pytest plugin: fixtures ``vm_options``, ``vm``, ``console`` and ``qmp``, and a failure's report.

The law: a test run that boots no guest pays for none. This module imports pytest and pytest-trio, which are
loaded already where it is of use; everything else comes with the first guest.
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Callable, Generator
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from stratovirt.testing import GuestConsole, RecordedQmp, Vm, VmOptions

Function = TypeVar("Function")
MARKER = "vm(**options): what the fixture `vm` boots; the options are those of stratovirt.testing.VmOptions"
GUESTS = pytest.StashKey[list["Vm"]]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", MARKER)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach what the guests of a failing test have said."""
    report = yield
    if report.failed:
        for vm in item.stash.get(GUESTS, []):
            report.sections += [(title, text) for title, text in vm.sections() if text]
    return report


@pytest.fixture
def vm_options(request: pytest.FixtureRequest) -> VmOptions:
    """The guest to boot, from the marker ``vm``; override it for a module or a folder."""
    from stratovirt.testing import VmOptions

    marker = request.node.get_closest_marker("vm")
    return VmOptions(**(marker.kwargs if marker else {}))


if importlib.util.find_spec("pytest_trio"):
    import pytest_trio

    trio_fixture: Callable[[Function], Function] = pytest_trio.trio_fixture

    @trio_fixture
    async def vm(vm_options: VmOptions, request: pytest.FixtureRequest) -> AsyncIterator[Vm]:
        """A guest whose shell is ready; its process is gone when the test is over."""
        from stratovirt.testing import launched

        async with launched(vm_options) as vm:
            request.node.stash.setdefault(GUESTS, []).append(vm)
            await vm.booted()
            yield vm

    @trio_fixture
    async def console(vm: Vm) -> GuestConsole:
        """The serial line of ``vm``."""
        return vm.console

    @trio_fixture
    async def qmp(vm: Vm) -> AsyncIterator[RecordedQmp]:
        """A QMP client of ``vm``."""
        async with vm.qmp() as client:
            yield client

else:

    @pytest.fixture
    def vm() -> None:
        """Says what is missing."""
        raise pytest.UsageError("a guest is driven from pytest-trio: pip install 'stratovirt[testing]'")
