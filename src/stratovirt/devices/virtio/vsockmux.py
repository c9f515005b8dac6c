"""All vsock connections of a guest: which packet is whose, and whose packet is next.

The law: the guest can make us keep no more than MAX_CONNECTIONS streams, and MAX_REPLIES answers besides a
reset for each stream that it knew; a stream whose host is slow waits alone. Streams take turns, packet by
packet.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from stratovirt.devices.virtio.queue import Chain
from stratovirt.devices.virtio.rooms import Rooms
from stratovirt.devices.virtio.vsockpacket import HOST_CID, STREAM, Header, Op
from stratovirt.devices.virtio.vsockstream import Broken, HostEnd, Key, State, Stream
from stratovirt.devices.virtio.watches import Watches

MAX_CONNECTIONS = 1023
"""Firecracker's MAX_CONNECTIONS."""
MAX_REPLIES = 256
"""Answers that wait for the guest to offer buffers; while so many do, it is not listened to. The size of
Firecracker's receive queue of the muxer."""
FIRST_HOST_PORT = 1 << 30
"""Of connections that the host has asked for; Firecracker's. The upper half is left to ports with a name."""
LAST_HOST_PORT = (1 << 31) - 1


class Dialler(Protocol):
    """The way from the guest to the host."""

    def dial(self, port: int) -> HostEnd:
        """A connection to who listens on the host's ``port``.

        :raises OSError: nobody does.
        """


class Multiplexer:
    """The connections between ``host`` and the guest at ``guest_cid``.

    :param watches: where host's ends are watched.
    :param packet_came: called when there is a packet for the guest.
    :raises OSError: no fds are left.
    """

    def __init__(
        self, guest_cid: int, host: Dialler, watches: Watches, packet_came: Callable[[], None]
    ) -> None:
        self._guest_cid = guest_cid
        self._host = host
        self._watches = watches
        self._packet_came = packet_came
        self._streams: dict[Key, Stream] = {}
        self._ready: OrderedDict[Stream, None] = OrderedDict()  # those with a packet, in turn
        self._replies: deque[Header] = deque()
        self._flushing: set[Stream] = set()  # whose host is to take what was kept for it
        self._forgotten: list[Stream] = []  # by a reset; still watched
        self._next_port = FIRST_HOST_PORT
        self._rooms = Rooms()
        watches.watch(self._rooms.fd, self._rooms.look)

    def __len__(self) -> int:
        """Connections, with those that have ended for the guest and not for the host."""
        ended = sum(stream.state is State.ENDED for stream in self._flushing)
        return len(self._streams) + len(self._forgotten) + ended

    @property
    def is_full(self) -> bool:
        """Is there no room for answers, so that the guest is not to be listened to?"""
        return len(self._replies) >= MAX_REPLIES

    @property
    def has_packet(self) -> bool:
        """May :meth:`fill` have a packet for the guest?"""
        return bool(self._replies or self._ready)

    # -- the guest's packets -----------------------------------------------------------------------------

    def hear(self, header: Header, payload: Sequence[memoryview]) -> None:
        """A packet of the guest's; one with a wrong sender is nobody's (§5.10.6.2)."""
        if header.src_cid != self._guest_cid:
            return
        ours = header.dst_cid == HOST_CID and header.type == STREAM
        stream = self._streams.get(Key(header.dst_port, header.src_port)) if ours else None
        if stream is not None:
            self._hear(stream, header, payload)
        elif ours and header.op == Op.REQUEST:
            self._answer(header)
        else:
            self._refuse(header)

    def _hear(self, stream: Stream, header: Header, payload: Sequence[memoryview]) -> None:
        if header.op == Op.RST:
            self._drop(stream)
            return
        try:
            stream.hear(header, payload)
        except Broken:
            self._break(stream)
            return
        if stream.state is State.ENDED:
            self._reply(header.reset())
        self._settle(stream)

    def _answer(self, request: Header) -> None:
        if len(self) >= MAX_CONNECTIONS:
            self._refuse(request)
            return
        try:
            end = self._host.dial(request.dst_port)
        except OSError:
            self._refuse(request)
            return
        self._add(Stream(Key(request.dst_port, request.src_port), self._guest_cid, end, request))

    def _refuse(self, header: Header) -> None:
        if header.op != Op.RST:
            self._reply(header.reset())

    def _reply(self, header: Header) -> None:
        self._replies.append(header)
        self._packet_came()

    # -- packets for the guest ---------------------------------------------------------------------------

    def fill(self, chain: Chain) -> int:
        """Store the next packet in a buffer with room for more than a header; its length, or 0."""
        while not self._replies and self._ready:
            stream, _ = self._ready.popitem(last=False)
            try:
                length = stream.fill(chain)
            except Broken:
                self._break(stream)
                continue
            self._settle(stream)
            if length:
                return length
        return chain.write(self._replies.popleft().pack()) if self._replies else 0

    # -- the host's side ---------------------------------------------------------------------------------

    def connect(self, end: HostEnd, port: int) -> Stream:
        """Ask the guest for a connection to its ``port``; there is room for one more."""
        stream = Stream(Key(self._free_port(port), port), self._guest_cid, end)
        self._add(stream)
        return stream

    def give_up(self, stream: Stream) -> None:
        """The guest has had its time to answer; nothing if it did. It is told if it was asked."""
        if self._streams.get(stream.key) is not stream or stream.state is not State.CONNECTING:
            return
        if stream.is_unheard_of:
            self._drop(stream)
        else:
            self._break(stream)

    def _free_port(self, guest_port: int) -> int:
        while True:
            port = self._next_port
            self._next_port = port + 1 if port < LAST_HOST_PORT else FIRST_HOST_PORT
            if Key(port, guest_port) not in self._streams:
                return port

    def _input_came(self, stream: Stream) -> None:
        if stream not in self._forgotten:
            stream.readable = True
            self._settle(stream)

    def _room_came(self, stream: Stream) -> None:
        if stream in self._forgotten:
            return
        try:
            stream.flush()
        except Broken:
            self._break(stream)
        else:
            self._settle(stream)

    # -- the life of streams -----------------------------------------------------------------------------

    def reset(self) -> None:
        """The guest has forgotten its streams. Any thread: :meth:`bury` is to follow on the device's own.

        What it had sent on those that it had ended still goes to the host.
        """
        self._forgotten += self._streams.values()
        self._streams.clear()
        self._ready.clear()
        self._replies.clear()

    def bury(self) -> None:
        """Close what :meth:`reset` has left."""
        while self._forgotten:
            self._release(self._forgotten.pop())

    def close(self) -> None:
        """Close all streams; what the host has not taken yet is lost."""
        self.reset()
        self.bury()
        for stream in tuple(self._flushing):
            self._release(stream)
        self._rooms.close()

    def _add(self, stream: Stream) -> None:
        self._streams[stream.key] = stream
        self._settle(stream)

    def _settle(self, stream: Stream) -> None:
        """Watch and serve ``stream`` as it wants after whatever has happened to it."""
        if stream.state is State.ENDED:
            self._forget(stream)
            if not stream.wants_room:
                self._release(stream)
                return
        elif stream.has_packet and stream not in self._ready:
            self._ready[stream] = None
            self._packet_came()
        try:
            self._watch(stream)
        except OSError:
            self._break(stream)

    def _watch(self, stream: Stream) -> None:
        """:raises OSError: the host cannot watch one more."""
        end = stream.host
        if stream.wants_input and not stream.readable:
            self._watches.watch(end.fd, partial(self._input_came, stream))
        else:
            self._watches.unwatch(end.fd)
        if stream.wants_room and stream not in self._flushing:
            self._rooms.watch(end.fd, partial(self._room_came, stream))
            self._flushing.add(stream)
        elif stream in self._flushing and not stream.wants_room:
            self._flushing.remove(stream)
            self._rooms.unwatch(end.fd)

    def _break(self, stream: Stream) -> None:
        """End ``stream`` and tell the guest, which may have ended it before."""
        if stream.state is not State.ENDED:
            self._reply(Header(HOST_CID, self._guest_cid, *stream.key, op=Op.RST))
        self._drop(stream)

    def _drop(self, stream: Stream) -> None:
        self._forget(stream)
        self._release(stream)

    def _forget(self, stream: Stream) -> None:
        """The guest knows of it no more, and may use its ports anew."""
        if self._streams.get(stream.key) is stream:
            del self._streams[stream.key]
        self._ready.pop(stream, None)

    def _release(self, stream: Stream) -> None:
        """Close the host's end; nothing is watched any more."""
        end = stream.host
        self._watches.unwatch(end.fd)
        if stream in self._flushing:
            self._flushing.remove(stream)
            self._rooms.unwatch(end.fd)
        end.close()
