"""Socket servers and clients: who may connect, how many at a time, and what is on the disk before, during
and after. All sockets are real."""

import errno
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from stratovirt.chardev.client import SocketClient
from stratovirt.chardev.listener import SocketServer
from stratovirt.chardev.protocol import Handler
from stratovirt.chardev.tcp import TcpClient, TcpServer
from stratovirt.chardev.unix import PATH_LIMIT, UnixClient, UnixServer
from stratovirt.errors import ConfigError
from tests.descriptors import descriptors_left

DEADLINE = 20.0


async def echo(stream: trio.abc.Stream) -> None:
    """Gives every byte back."""
    while data := await stream.receive_some():
        await stream.send_all(data)


@asynccontextmanager
async def serving(
    server: SocketServer, handler: Handler = echo, clients: int | None = None
) -> AsyncIterator[None]:
    server.open()
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            await server.serve(handler, clients=clients)

        nursery.start_soon(serve)
        with trio.fail_after(DEADLINE):
            yield
        nursery.cancel_scope.cancel()
    server.close()


async def check_echo(stream: trio.abc.Stream, text: bytes = b"hello") -> None:
    await stream.send_all(text)
    assert await stream.receive_some() == text


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A short one, whatever the test's name."""
    monkeypatch.chdir(tmp_path)
    return "s.sock"


async def test_a_client_reaches_the_handler(path: str) -> None:
    async with serving(UnixServer("c", path)), await trio.open_unix_socket(path) as client:
        await check_echo(client)


async def test_many_clients_are_served_at_the_same_time(path: str) -> None:
    async with serving(UnixServer("c", path)):
        clients = [await trio.open_unix_socket(path) for _ in range(20)]
        for index, client in enumerate(clients):
            await check_echo(client, b"%d" % index)
        for client in clients:
            await client.aclose()


async def test_a_client_beyond_the_limit_is_served_when_one_leaves(path: str) -> None:
    async with serving(UnixServer("c", path), clients=1):
        first, second = await trio.open_unix_socket(path), await trio.open_unix_socket(path)
        async with second:
            await second.send_all(b"waiting")
            await check_echo(first)
            await first.aclose()
            assert await second.receive_some() == b"waiting"


async def test_peers_may_connect_as_soon_as_it_is_open(path: str) -> None:
    server = UnixServer("c", path)
    server.open()
    async with await trio.open_unix_socket(path) as early:
        await early.send_all(b"early")
        async with serving(server):
            assert await early.receive_some() == b"early"


async def test_the_first_client_can_be_waited_for(path: str) -> None:
    server = UnixServer("c", path)
    async with serving(server):
        await trio.testing.wait_all_tasks_blocked()
        assert not server.first_client.is_set()
        async with await trio.open_unix_socket(path):
            await server.first_client.wait()


async def test_serving_can_end_and_begin_again(path: str) -> None:
    server = UnixServer("c", path)
    server.open()
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, echo)
            async with await trio.open_unix_socket(path) as client:
                await check_echo(client)
            nursery.cancel_scope.cancel()
    server.close()


def test_the_socket_file_is_the_owners_alone_whatever_the_umask(path: str) -> None:
    before = os.umask(0)
    server = UnixServer("c", path)
    server.open()
    os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    server.close()


def test_the_socket_file_is_removed_even_from_another_directory(path: str, tmp_path: Path) -> None:
    server = UnixServer("c", path)
    server.open()
    os.chdir("/")
    server.close()
    server.close()
    assert not (tmp_path / path).exists()


def test_a_file_that_took_the_sockets_place_is_not_removed(path: str) -> None:
    server = UnixServer("c", path)
    server.open()
    os.unlink(path)
    Path(path).write_text("mine")
    server.close()
    assert Path(path).read_text() == "mine"


async def test_the_socket_of_a_dead_process_is_replaced(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        dead.listen()
    async with serving(UnixServer("c", path)), await trio.open_unix_socket(path) as client:
        await check_echo(client)


@pytest.mark.parametrize("waiting", [0, 2])
def test_the_socket_of_a_live_process_is_an_error_and_stays(path: str, waiting: int) -> None:
    """Also when its backlog is full."""
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(path)
        live.listen(1)
        peers = [socket.socket(socket.AF_UNIX) for _ in range(waiting)]
        for peer in peers:
            peer.connect(path)
        with pytest.raises(ConfigError, match=r"s\.sock: another process listens"):
            UnixServer("c", path).open()
        assert os.path.exists(path)
        for peer in peers:
            peer.close()


def make_dangling_link(path: Path) -> None:
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, make_dangling_link])
def test_what_is_no_socket_is_an_error_and_stays(path: str, make: Callable[[Path], None]) -> None:
    make(Path(path))
    with pytest.raises(ConfigError, match=r"s\.sock: exists and is not a socket"):
        UnixServer("c", path).open()
    assert os.path.lexists(path)


@pytest.mark.parametrize("device", [UnixServer, UnixClient])
@pytest.mark.parametrize("length", [0, PATH_LIMIT + 1])
def test_a_path_that_no_socket_can_have_is_an_error(
    device: type[UnixServer | UnixClient], length: int
) -> None:
    with pytest.raises(ConfigError, match=f"this has {length}$"):
        device("c", "x" * length).open()


def test_a_path_of_the_greatest_length_works(path: str) -> None:
    server = UnixServer("c", "x" * PATH_LIMIT)
    server.open()
    assert os.path.exists("x" * PATH_LIMIT)
    server.close()


def test_a_missing_directory_is_an_error_that_names_the_path(path: str) -> None:
    with pytest.raises(ConfigError, match=r"^missing/s\.sock: cannot listen: No such file or directory$"):
        UnixServer("c", "missing/s.sock").open()


def test_opening_twice_is_opening_once(path: str) -> None:
    server = UnixServer("c", path)
    server.open()
    inode = os.stat(path).st_ino
    server.open()
    assert os.stat(path).st_ino == inode
    server.close()


class Heard(logging.Handler):
    """Sets an event when something is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.event = trio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.event.set()


@contextmanager
def no_fds_left() -> Iterator[None]:
    """accept fails with EMFILE inside this block."""
    with descriptors_left(0):
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            os.dup(0)
        yield


async def test_a_client_that_comes_while_fds_are_short_is_served_later(path: str) -> None:
    heard = Heard()
    logger = logging.getLogger("stratovirt.chardev.listener")
    logger.addHandler(heard)
    async with serving(UnixServer("c", path)):
        client = socket.socket(socket.AF_UNIX)
        with no_fds_left():
            client.connect(path)
            await heard.event.wait()
        async with trio.SocketStream(trio.socket.from_stdlib_socket(client)) as stream:
            await check_echo(stream)
    logger.removeHandler(heard)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_tcp_clients_reach_the_handler(host: str) -> None:
    server = TcpServer("c", host, 0)
    try:
        server.open()
    except ConfigError as error:
        pytest.skip(f"this host has no {host}: {error}")
    async with serving(server), await trio.open_tcp_stream(host, server.port) as client:
        assert str(server.port) in server.filename
        await check_echo(client)


async def test_small_tcp_packets_are_sent_at_once() -> None:
    no_delay: list[int] = []

    async def look(stream: trio.abc.Stream) -> None:
        assert isinstance(stream, trio.SocketStream)
        no_delay.append(stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    server = TcpServer("c", "127.0.0.1", 0)
    async with serving(server, look), await trio.open_tcp_stream("127.0.0.1", server.port) as client:
        assert await client.receive_some() == b""
    assert no_delay == [1]


@pytest.mark.parametrize(("host", "warnings"), [("127.0.0.1", 0), ("0.0.0.0", 1)])
def test_an_address_that_others_can_reach_is_warned_of(
    host: str, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    server = TcpServer("c", host, 0)
    server.open()
    server.close()
    assert len(caplog.records) == warnings
    assert all("no authentication" in record.message for record in caplog.records)


def test_a_taken_tcp_port_is_an_error_that_names_it() -> None:
    first = TcpServer("a", "127.0.0.1", 0)
    first.open()
    with pytest.raises(ConfigError, match=f"^127.0.0.1:{first.port}: cannot listen: Address already in use$"):
        TcpServer("b", "127.0.0.1", first.port).open()
    first.close()


@pytest.mark.parametrize("device", [TcpServer, TcpClient])
def test_a_host_name_is_an_error(device: type[TcpServer | TcpClient]) -> None:
    with pytest.raises(ConfigError, match=r"^localhost: not an IP address$"):
        device("c", "localhost", 4444)


def clients_of(path: str, server: TcpServer) -> list[SocketClient]:
    return [UnixClient("u", path), TcpClient("t", "127.0.0.1", server.port)]


async def test_a_client_device_talks_to_whoever_listens(path: str) -> None:
    tcp = TcpServer("t", "127.0.0.1", 0)
    async with serving(UnixServer("u", path)), serving(tcp):
        for client in clients_of(path, tcp):
            client.open()
            await client.serve(check_echo)
            client.close()


def test_a_client_device_to_which_nobody_listens_is_an_error(path: str) -> None:
    server = TcpServer("t", "127.0.0.1", 0)
    server.open()
    clients = clients_of(path, server)
    server.close()
    for client in clients:
        with pytest.raises(ConfigError, match="cannot connect"):
            client.open()


def test_a_connection_that_is_never_served_is_closed(path: str) -> None:
    server, client = UnixServer("s", path), UnixClient("c", path)
    server.open()
    client.open()
    client.close()
    server.close()
    assert not os.path.exists(path)


def test_file_names_are_those_of_query_chardev(path: str) -> None:
    assert UnixServer("c", path).filename == "unix:s.sock,server=on"
    assert UnixClient("c", path).filename == "unix:s.sock"
    assert TcpServer("c", "127.0.0.1", 4444).filename == "tcp:127.0.0.1:4444,server=on"
    assert TcpClient("c", "::1", 4444).filename == "tcp:[::1]:4444"
