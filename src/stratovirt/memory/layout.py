"""Where RAM lies in the guest's physical address space (x86_64 microvm).

RAM fills 0 to 3 GiB and goes on at 4 GiB; the gigabyte between holds virtio-mmio slots and the
interrupt controllers.
"""

HOLE_START = 3 << 30
FOUR_GIB = 4 << 30


def ram_ranges(size: int) -> list[tuple[int, int]]:
    """``[(guest address, length), ...]`` in ascending order for ``size`` bytes of RAM."""
    low = min(size, HOLE_START)
    return [(0, low)] if size == low else [(0, low), (FOUR_GIB, size - low)]
