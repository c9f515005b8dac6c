"""Both clients work against QEMU, where it is installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from stratovirt.client import QmpCommandError, blocking, connect_unix
from tests.clients.servers import PATIENCE, qemu


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    with qemu(tmp_path / "qmp.sock"):
        yield tmp_path / "qmp.sock"


async def test_the_trio_client(path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with connect_unix(path, starting=True) as client:
            assert "qemu" in client.greeting.version
            assert (await client.execute("query-status"))["status"] == "prelaunch"
            await client.execute_and_wait("cont", event="RESUME", timeout=PATIENCE)
            with pytest.raises(QmpCommandError) as refusal:
                await client.execute("make-coffee")
            assert refusal.value.error_class == "CommandNotFound"
            reader, writer = os.pipe()
            try:
                assert await client.execute("getfd", fdname="tap0", fds=[reader]) == {}
            finally:
                os.close(reader)
                os.close(writer)
            assert len(await client.execute("query-qmp-schema")) > 500
            shutdown = await client.execute_and_wait("quit", event="SHUTDOWN", timeout=PATIENCE)
            assert shutdown.data["reason"] == "host-qmp-quit"
            await client.wait_disconnected()


def test_the_blocking_client(path: Path) -> None:
    with blocking.connect_unix(path, timeout=PATIENCE, starting=True) as client:
        assert client.execute("query-status", timeout=PATIENCE)["status"] == "prelaunch"
        client.execute_and_wait("cont", event="RESUME", timeout=PATIENCE)
        reader, writer = os.pipe()
        try:
            assert client.execute("getfd", fdname="tap0", fds=[reader], timeout=PATIENCE) == {}
        finally:
            os.close(reader)
            os.close(writer)
        client.execute_and_wait("quit", event="SHUTDOWN", timeout=PATIENCE)
        assert client.wait_disconnected(timeout=PATIENCE) == "the server has closed the connection"
