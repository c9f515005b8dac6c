"""Host character devices and who uses them: -chardev, -serial, -qmp, -mon."""

from typing import Literal, NamedTuple

from stratovirt.cli.config import (
    Address,
    Chardev,
    FileChardev,
    Mon,
    NullChardev,
    PtyChardev,
    QmpMonitor,
    RingbufChardev,
    Serial,
    SocketChardev,
    StdioChardev,
    TcpAddress,
    UnixAddress,
)
from stratovirt.cli.schema import Key, Keys, Kinds, single, split
from stratovirt.cli.values import (
    ADDRESS,
    FILE,
    ID,
    IP,
    PORT,
    RINGBUF,
    SOCKET_PATH,
    SWITCH,
    BadValue,
    Value,
    choice,
)
from stratovirt.cli.wording import alternatives

# Id of the chardev that -serial makes from a backend given in place; QEMU's name for it.
SERIAL_ID = "serial0"


def _waits(server: bool, wait: bool | None, nowait: bool | None) -> bool:
    """QEMU's rule: a server waits for its first client unless it is told not to; a client never does."""
    if wait is not None and nowait is not None:
        raise BadValue("wait and nowait are the same switch: give one")
    if not server and (wait is not None or nowait is not None):
        raise BadValue("wait and nowait need server")
    if nowait is not None:
        return server and not nowait
    return server if wait is None else wait


def _socket(
    id: str,
    path: str | None = None,
    host: str | None = None,
    port: int | None = None,
    server: bool = False,
    wait: bool | None = None,
    nowait: bool | None = None,
) -> SocketChardev:
    return SocketChardev(id, _socket_address(path, host, port), server, _waits(server, wait, nowait))


def _socket_address(path: str | None, host: str | None, port: int | None) -> Address:
    if path is not None and host is None and port is None:
        return UnixAddress(path)
    if path is None and host is not None and port is not None:
        return TcpAddress(host, port)
    raise BadValue("needs either path=PATH or both host=IP and port=PORT")


_WAIT = (Key("wait", SWITCH), Key("nowait", SWITCH))
_ID = Key("id", ID, required=True)

CHARDEV = Kinds(
    "backend",
    {
        "stdio": Keys(StdioChardev, (_ID,)),
        "pty": Keys(PtyChardev, (_ID,)),
        "file": Keys(FileChardev, (_ID, Key("path", FILE, required=True))),
        "null": Keys(NullChardev, (_ID,)),
        "ringbuf": Keys(RingbufChardev, (_ID, Key("size", RINGBUF))),
        "socket": Keys(
            _socket,
            (
                _ID,
                Key("path", SOCKET_PATH),
                Key("host", IP),
                Key("port", PORT),
                Key("server", SWITCH),
                *_WAIT,
            ),
        ),
    },
)


class SerialPort(NamedTuple):
    """``-serial`` as read: the port, and the backend that was given in place of a chardev's id."""

    port: Serial | None = None
    backend: Chardev | None = None


_SERIAL_CHARDEV = single("chardev", ID)
_SERIAL_FORMS = (*CHARDEV.kinds, "chardev:ID", "mon:stdio", "none")


def _serial(text: str) -> SerialPort:
    if text == "none":
        return SerialPort(Serial(None))
    if text == "mon:stdio":
        return SerialPort(Serial(SERIAL_ID, monitor=True), StdioChardev(SERIAL_ID))
    if text.startswith("chardev:"):
        return SerialPort(Serial(_SERIAL_CHARDEV.read(text.removeprefix("chardev:"))))
    items = split(text)
    if items[0] not in CHARDEV.kinds:
        raise BadValue(f"must be {alternatives(_SERIAL_FORMS)}")
    if not any(item.startswith("id=") for item in items):
        items.append(f"id={SERIAL_ID}")
    backend: Chardev = CHARDEV.read_items(items)
    return SerialPort(Serial(backend.id), backend)


SERIAL = Value("|".join(_SERIAL_FORMS), _serial)


def _qmp(
    address: Address,
    server: bool,
    wait: bool | None = None,
    nowait: bool | None = None,
    throttle: Literal["delay", "reject"] = "delay",
) -> QmpMonitor:
    if not server:
        raise BadValue("server must be on: a monitor is the listening side")
    return QmpMonitor(address, _waits(server, wait, nowait), throttle)


QMP = Keys(
    _qmp,
    (
        Key("address", ADDRESS, required=True),
        Key("server", SWITCH, required=True),
        *_WAIT,
        Key("throttle", choice("delay", "reject")),
    ),
    implied=True,
)

MON = Keys(
    Mon,
    (
        Key("chardev", ID, required=True),
        Key("mode", choice("control", "readline"), required=True),
        Key("id", ID),
    ),
    implied=True,
)
