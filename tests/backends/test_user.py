"""passt is started so that it works, is refused with its own words, and never outlives its backend."""

from __future__ import annotations

import os
import select
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stratovirt.backends.net.user import Forward, UserNet, last_words
from stratovirt.errors import ConfigError
from tests.network import Namespace, namespace

WITHIN = 10


@pytest.fixture
def net() -> Iterator[Namespace]:
    """A namespace with a default route, from whose interface passt takes the guest's addresses."""
    if shutil.which("passt") is None:
        pytest.skip("passt is not installed")
    with namespace() as space:
        space.add_uplink()
        yield space


def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Another passt on PATH."""
    path = tmp_path / "passt"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)


def ends(net: Namespace, pid: str) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_it_listens_on_the_forwarded_ports_and_ends_with_the_backend(net: Namespace) -> None:
    with closing(net.call(lambda: UserNet([Forward("tcp", "127.0.0.1", 2222, 22)]))) as backend:
        assert "127.0.0.1:2222" in net.run("ss", "-Hltn")
        pid = backend.describe().rpartition("=")[2]
        assert not ends(net, pid)
    assert ends(net, pid)


def test_a_port_in_use_is_refused_in_its_own_words(net: Namespace) -> None:
    def refusal() -> str:
        with socket.create_server(("127.0.0.1", 2222)), pytest.raises(ConfigError) as refused:
            UserNet([Forward("tcp", "127.0.0.1", 2222, 22)])
        return str(refused.value)

    assert "passt does not start: Failed to bind" in net.call(refusal)


def test_a_host_without_passt_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="needs passt: install the Debian package passt"):
        UserNet()


def test_one_that_dies_at_once_is_refused_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, monkeypatch, "echo 'Failed to send 9 bytes to syslog'; echo 'no such luck' >&2; exit 1")
    with pytest.raises(ConfigError, match=r"passt does not start: no such luck$"):
        UserNet()


def test_one_that_does_not_end_by_itself_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stratovirt.backends.net.user.START_SECONDS", 0.2)
    monkeypatch.setattr("stratovirt.backends.net.user.END_SECONDS", 0.2)
    program(tmp_path, monkeypatch, "while :; do read -r line <&0 || sleep 1; done")
    UserNet().close()


def test_the_loss_of_passt_is_seen_at_its_port_and_its_output(net: Namespace) -> None:
    with closing(net.call(UserNet)) as backend:
        output = backend.take_output()
        os.kill(int(backend.describe().rpartition("=")[2]), 15)
        assert select.select([backend.ports[0].fd], [], [], WITHIN)[0]
        with pytest.raises(OSError, match=r"its other end is closed|reset by peer"):
            while backend.ports[0].receive([memoryview(bytearray(70000))]):
                pass
        while os.read(output, 1000):
            pass
        os.close(output)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "it has ended without a word"),
        (b"a\nb\n\n", "b"),
        (b"why\nFailed to send 12 bytes to syslog\n", "why"),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_last_words_are_the_last_line_that_means_something(said: bytes, words: str) -> None:
    assert last_words(said) == words


@pytest.mark.parametrize(
    ("forward", "argument"),
    [
        (Forward("tcp", "", 8080, 80), ["-t", "8080:80"]),
        (Forward("udp", "127.0.0.1", 53, 5353), ["-u", "127.0.0.1/53:5353"]),
    ],
)
def test_forwards_are_said_as_passt_takes_them(forward: Forward, argument: list[str]) -> None:
    assert forward.argument() == argument
