"""The QMP wire contract: framing, envelopes, schemas, sessions, flow control, real clients.

Rules for tests here: streams are in memory and the clock jumps (``autojump_clock``), so nothing sleeps;
every reply and event is read through :class:`tests.protocol.client.Client`, which holds each of them
against ``schemas/``; a parser test runs its transcript whole, byte by byte and at random cuts.
"""
