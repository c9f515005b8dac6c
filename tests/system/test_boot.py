"""Stock Debian kernels reach userspace, and what they then see is the machine that was asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.system.vm import guest_options, started

CLOUD, GENERIC = "cloud", "generic"


@pytest.fixture
def boot(request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """Kernel and initramfs of the flavour that the test is parametrized with."""
    flavour = request.param
    return request.getfixturevalue(f"{flavour}_kernel"), request.getfixturevalue(f"{flavour}_initrd")


@pytest.mark.parametrize(
    ("boot", "cpus", "memory"),
    [
        (CLOUD, 1, "128M"),
        (CLOUD, 2, "256M"),
        (CLOUD, 4, "256M"),
        (CLOUD, 1, "6G"),
        (GENERIC, 1, "256M"),
        (GENERIC, 2, "512M"),
    ],
    indirect=["boot"],
)
async def test_a_stock_kernel_reaches_userspace_and_powers_off(
    boot: tuple[Path, Path], cpus: int, memory: str, tmp_path: Path
) -> None:
    options = guest_options(*boot, tmp_path, "up")
    async with started(*options, "-smp", str(cpus), "-m", memory, directory=tmp_path) as vm:
        async with vm.console() as console:
            await console.expect(b"GUEST-UP")
            await console.expect(b"Power down")
        assert await vm.exit_code() == 0
    assert f"smp: Brought up 1 node, {cpus} CPU".encode() in console.text


async def test_memory_above_the_hole_holds_what_is_written_to_it(
    cloud_kernel: Path, cloud_initrd: Path, tmp_path: Path
) -> None:
    options = guest_options(cloud_kernel, cloud_initrd, tmp_path, "memory")
    async with started(*options, "-m", "4608M", directory=tmp_path) as vm:
        async with vm.console() as console:
            await console.expect(b"MEMORY-")
            line = await console.expect(b"\n")
        assert line.startswith(b"OK"), line
        total = re.search(rb"total_kib=(\d+)", line)
        assert total is not None
        assert int(total[1]) > 4300 * 1024
        assert await vm.exit_code() == 0


@pytest.mark.parametrize("cpus", [1, 2])
async def test_processes_pipes_and_data_survive_stress(
    cloud_kernel: Path, cloud_initrd: Path, tmp_path: Path, cpus: int
) -> None:
    options = guest_options(cloud_kernel, cloud_initrd, tmp_path, "stress")
    async with started(*options, "-smp", str(cpus), directory=tmp_path) as vm, vm.console() as console:
        await console.expect(b"STRESS-")
        assert (await console.expect(b"\n")).startswith(b"OK forks=200 pipelines=30 bytes=8388608"), (
            console.tail()
        )
        assert await vm.exit_code() == 0


@pytest.mark.parametrize("cpus", [2, 4])
async def test_smp_is_real_while_kernel_text_is_patched(
    cloud_kernel: Path, cloud_initrd: Path, tmp_path: Path, cpus: int
) -> None:
    options = guest_options(cloud_kernel, cloud_initrd, tmp_path, "smp")
    async with started(*options, "-smp", str(cpus), directory=tmp_path) as vm, vm.console() as console:
        await console.expect(b"SMP-", seconds=120)
        assert (await console.expect(b"\n")).startswith(f"OK n={cpus} sum=10000000".encode()), console.tail()
        assert await vm.exit_code() == 0
