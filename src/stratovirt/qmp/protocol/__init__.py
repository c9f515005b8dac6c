"""The sans-io core of QMP: bytes in, requests out; replies and events in, bytes out.

Lives here: ``lexer`` (bytes to tokens), ``decoding`` (tokens to Python values, strictly), ``parser``
(the grammar as a table), ``framing`` (a stream to messages, with limits and resynchronisation),
``messages`` (the envelopes), ``state`` (the life of a connection as a table) and ``connection``, which
puts them together. No I/O, no clock, no trio, no machine: only the standard library and each other,
in this order.
"""

from stratovirt.qmp.protocol.connection import Connection, ProtocolMisuse
from stratovirt.qmp.protocol.framing import MAX_DEPTH, MAX_MESSAGE
from stratovirt.qmp.protocol.messages import Refusal, Request
from stratovirt.qmp.protocol.state import State

__all__ = ["MAX_DEPTH", "MAX_MESSAGE", "Connection", "ProtocolMisuse", "Refusal", "Request", "State"]
