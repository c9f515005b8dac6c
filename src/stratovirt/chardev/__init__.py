"""Host character devices: where the bytes of consoles and monitors come from and go to.

Lives here: the :class:`~stratovirt.chardev.protocol.Chardev` backends (sockets, stdio, pty, file, null,
ringbuf); the terminal's escape keys, and the multiplexer by which console and monitor share a terminal;
and :class:`~stratovirt.chardev.port.BytePort`, where a guest's serial device on a vCPU thread meets a
stream in trio. Knows nothing of the command line, the machine or QMP, and imports only ``errors``;
whoever supervises tasks runs ``serve`` as one of them.
"""
