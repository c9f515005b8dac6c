"""The public types, stated: mypy reads this file in test_types.py; nothing runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import trio

from stratovirt import client as trio_client
from stratovirt.client import Event, Greeting, QmpClient, QmpCommandError, Subscription, blocking


async def of_the_trio_client(stream: trio.abc.Stream, path: Path) -> None:
    async with trio_client.connect_unix(path, timeout=1, starting=True) as client:
        assert_type(client, QmpClient)
    async with trio_client.connect_tcp("::1", 1) as client:
        assert_type(client, QmpClient)
    async with QmpClient.over(stream) as client:
        assert_type(client, QmpClient)
        assert_type(client.greeting, Greeting)
        assert_type(await client.execute("getfd", {"fdname": "x"}, timeout=1.5, fds=[0]), Any)
        assert_type(await client.execute_and_wait("cont", event="RESUME", timeout=None), Event)
        assert_type(await client.wait_disconnected(), str)
        async with client.events("STOP", limit=10) as events:
            assert_type(events, Subscription)
            assert_type(await events.get(timeout=1), Event)
            assert_type(events.waiting(), list[Event])
            assert_type(events.dropped, int)
            async for event in events:
                assert_type(event.name, str)
                assert_type(event.data, dict[str, Any])
                assert_type(event.timestamp, float)


def of_the_blocking_client(path: Path) -> None:
    with blocking.connect_tcp("::1", 1) as client:
        assert_type(client, blocking.QmpClient)
    with blocking.connect_unix(path) as client:
        assert_type(client.greeting, Greeting)
        assert_type(client.execute("stop", timeout=1), Any)
        assert_type(client.execute_and_wait("cont", event="RESUME"), Event)
        assert_type(client.wait_disconnected(timeout=1), str)
        assert_type(client.fileno(), int)
        with client.events("STOP") as events:
            assert_type(events.get(timeout=1), Event)
            for event in events:
                assert_type(event, Event)


def of_errors(error: QmpCommandError) -> None:
    assert_type(error.error_class, str)
    assert_type(error.desc, str)
    assert_type(error.command, str)
