"""C for what repeats with every byte or exit. Python decides, C repeats.

Lives here: :class:`~stratovirt.native.line.Line`, the buffers between a guest's byte device and a stream,
:class:`~stratovirt.native.uart.Uart`, the serial port, :class:`~stratovirt.native.block.Block`, the plain
reads and writes of a disk, :class:`~stratovirt.native.net.Net`, frames between a network card and a tap, and
the search for pages that are not zero, which a snapshot repeats for all of RAM; and what only C can ask for,
:class:`~stratovirt.native.heap.HeapMark`. Accelerators call the port straight from their exits, through the
structures of native.h, without Python's lock. All behave as the readable Python that they stand for
(:mod:`stratovirt.devices.serial`, :mod:`stratovirt.devices.virtio.blkrequest`,
:mod:`stratovirt.devices.virtio.netqueues`), and tests compare
them. Imports nothing of ours.
"""
