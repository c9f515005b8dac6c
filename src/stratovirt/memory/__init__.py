"""Guest memory: the regions of RAM that the guest sees, and checked access to them.

Lives here: backings (what the bytes are kept in), regions (a backing at a guest address) and
:class:`GuestMemory`, the only way by which devices and loaders reach guest bytes. Knows nothing of
devices, accelerators or trio; everybody else may import it.
"""

from stratovirt.memory.guest import BadAddress, GuestMemory, Region
from stratovirt.memory.layout import FOUR_GIB, HOLE_START, ram_ranges

__all__ = ["FOUR_GIB", "HOLE_START", "BadAddress", "GuestMemory", "Region", "ram_ranges"]
