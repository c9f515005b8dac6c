"""C for what repeats with every byte or exit. Python decides, C repeats.

Lives here: :class:`~stratovirt.native.line.Line`, the buffers between a guest's byte device and a stream,
:class:`~stratovirt.native.uart.Uart`, the serial port, and the search for pages that are not zero, which a
snapshot repeats for all of RAM. Accelerators call the port straight from their exits, through the structures
of native.h, without Python's lock. It behaves as the readable Python that it stands for
(:mod:`stratovirt.devices.serial`), and tests compare the two. Imports nothing of ours.
"""
