"""Text to value: one small reader per kind of value.

The law: a reader sees the text of one value and nothing else, no file and no host. It gives the value
or raises :class:`BadValue` with words that follow the name of what was read: "must be on or off".
"""

import os
from collections.abc import Callable
from typing import NamedTuple

from stratovirt.cli.config import GIB, MIB, Address, HostForward, TcpAddress, UnixAddress
from stratovirt.cli.wording import alternatives

# struct sockaddr_un.sun_path is 108 bytes with its final NUL (unix(7)).
MAX_SOCKET_PATH = 107

# As long as what a vsock device puts behind its socket's path for a port: "_4294967294".
PORT_SUFFIX = 11

# StratoVirt's MAX_STRING_LENGTH for ids and names.
MAX_NAME = 255

# IFNAMSIZ is 16 with its final NUL (netdevice(7)).
MAX_INTERFACE_NAME = 15

# Longest number worth converting: 64 bits need 20 digits.
MAX_DIGITS = 20

# StratoVirt's bounds for guest RAM.
MIN_MEMORY = 128 * MIB
MAX_MEMORY = 512 * GIB

# Guest RAM is mapped in pages.
PAGE = 4096

_UNITS = {"K": 1 << 10, "M": MIB, "G": GIB}
_ON = ("on", "yes", "true")
_OFF = ("off", "no", "false")


class BadValue(ValueError):
    """What is wrong with a value; becomes an OptionError where the option's name is known."""


class Value(NamedTuple):
    """A kind of value: how help shows it, and its reader. A ``switch`` may stand without ``=on``."""

    form: str
    read: Callable[[str], object]
    switch: bool = False


def choice(*allowed: str) -> Value:
    """One of some words."""

    def read(text: str) -> str:
        if text not in allowed:
            raise BadValue(f"must be {alternatives(allowed)}")
        return text

    return Value("|".join(allowed), read)


def number(low: int, high: int) -> Value:
    """A decimal integer within bounds."""

    def read(text: str) -> int:
        value = _decimal(text)
        if value is None or not low <= value <= high:
            raise BadValue(f"must be a number from {low} to {high}")
        return value

    return Value("N", read)


def numbers(low: int, high: int) -> Value:
    """Decimal integers within bounds, separated by colons."""
    one = number(low, high)

    def read(text: str) -> tuple[object, ...]:
        return tuple(one.read(part) for part in text.split(":"))

    return Value("N[:N...]", read)


def size(low: int, high: int) -> Value:
    """Bytes within bounds; a suffix K, M or G multiplies."""
    return Value("N[K|M|G]", lambda text: _bytes(text, low, high, 1))


def human_size(value: int) -> str:
    """``value`` bytes in the largest unit that leaves a whole number."""
    for suffix, unit in reversed(_UNITS.items()):
        if value >= unit and value % unit == 0:
            return f"{value // unit}{suffix}"
    return str(value)


def _decimal(text: str) -> int | None:
    """int() alone would also take '+1', ' 1', '1_0' and the digits of other scripts."""
    if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS:
        return int(text)
    return None


def _bytes(text: str, low: int, high: int, default_unit: int) -> int:
    suffix = text[-1:].upper()
    value = _decimal(text[:-1] if suffix in _UNITS else text)
    if value is None:
        raise BadValue("must be a number with an optional suffix K, M or G")
    value *= _UNITS.get(suffix, default_unit)
    if not low <= value <= high:
        raise BadValue(f"must be {human_size(low)} to {human_size(high)}")
    return value


def _memory(text: str) -> int:
    value = _bytes(text, MIN_MEMORY, MAX_MEMORY, MIB)
    if value % PAGE:
        raise BadValue(f"must be a multiple of {human_size(PAGE)}")
    return value


def _ringbuf(text: str) -> int:
    value = _bytes(text, 1, GIB, 1)
    if value & (value - 1):
        raise BadValue("must be a power of two")  # QEMU's rule: its ring index is masked
    return value


def _switch(text: str) -> bool:
    if text not in _ON + _OFF:
        raise BadValue("must be on or off")
    return text in _ON


def _text(text: str) -> str:
    if not text:
        raise BadValue("must not be empty")
    return text


def _name(text: str) -> str:
    if not 0 < len(text) <= MAX_NAME or not text.isprintable():
        raise BadValue(f"must be 1 to {MAX_NAME} printable characters")
    return text


def is_word(text: str) -> bool:
    """Whether all of ``text`` is what ids and keys are made of."""
    return text.isascii() and all(sign.isalnum() or sign in "-._" for sign in text)


def _identifier(text: str) -> str:
    """QEMU's id_wellformed; a digit may come first, as in StratoVirt."""
    if not is_word(text) or not text[:1].isalnum() or len(text) > MAX_NAME:
        raise BadValue(
            f"must be 1 to {MAX_NAME} letters, digits, '-', '.' or '_', the first a letter or digit"
        )
    return text


def _socket_path(text: str, most: int = MAX_SOCKET_PATH) -> str:
    length = len(os.fsencode(_text(text)))
    if length > most:
        raise BadValue(f"must be a path of at most {most} bytes, not {length}")
    return text


def _vsock_path(text: str) -> str:
    return _socket_path(text, MAX_SOCKET_PATH - PORT_SUFFIX)


def _ip(text: str) -> str:
    import socket  # 3 ms that only TCP pays

    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        socket.inet_pton(family, text)
    except (OSError, UnicodeEncodeError):
        raise BadValue("must be an IP address, such as 127.0.0.1 or ::1") from None
    return text


def _port(text: str) -> int:
    value = _decimal(text)
    if value is None or not 1 <= value <= 65535:
        raise BadValue("must be a number from 1 to 65535")
    return value


def _address(text: str) -> Address:
    kind, _, rest = text.partition(":")
    if kind == "unix":
        return UnixAddress(_socket_path(rest))
    if kind == "tcp":
        return _tcp_address(rest)
    raise BadValue("must be unix:PATH or tcp:IP:PORT")


def _tcp_address(text: str) -> TcpAddress:
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        return TcpAddress(_ip(host), _port(port))
    except BadValue:
        raise BadValue("must be tcp:IP:PORT, the IP as 127.0.0.1 or [::1], the port 1 to 65535") from None


def _host_forward(text: str) -> HostForward:
    """QEMU's: the protocol may be left out, which means tcp, and so may both addresses."""
    protocol, _, rest = text.partition(":")
    host, _, guest = rest.rpartition("-")
    address, _, port = host.rpartition(":")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    guest_address, _, guest_port = guest.rpartition(":")
    try:
        match protocol or "tcp":
            case "tcp" | "udp" as known if not guest_address:
                return HostForward(known, address and _ip(address), _port(port), _port(guest_port))
    except BadValue:
        pass
    raise BadValue("must be tcp:[IP]:PORT-:PORT or udp:[IP]:PORT-:PORT, the host's and then the guest's port")


def _snapshot(text: str) -> str:
    scheme, _, directory = text.partition(":")
    if scheme != "file" or not directory:
        raise BadValue("must be file:DIR")
    return directory


def _uuid(text: str) -> str:
    groups = text.split("-")
    if [len(group) for group in groups] != [8, 4, 4, 4, 12] or not _is_hex("".join(groups)):
        raise BadValue("must be 8-4-4-4-12 hexadecimal digits")
    return text.lower()


def _mac(text: str) -> str:
    octets = text.split(":")
    if len(octets) != 6 or not all(len(octet) == 2 and _is_hex(octet) for octet in octets):
        raise BadValue("must be six octets, such as 52:54:00:12:34:56")
    if int(octets[0], 16) & 1:
        raise BadValue("must not be a multicast address: make the first octet even")
    return text.lower()


def _is_hex(text: str) -> bool:
    return set(text) <= set("0123456789abcdefABCDEF")


def _interface(text: str) -> str:
    """Linux's dev_valid_name."""
    if not 0 < len(os.fsencode(text)) <= MAX_INTERFACE_NAME or any(
        sign in "/:" or sign.isspace() for sign in text
    ):
        raise BadValue(f"must be an interface name of 1 to {MAX_INTERFACE_NAME} bytes")
    return text


SWITCH = Value("on|off", _switch, switch=True)
TEXT = Value("TEXT", _text)
VERBATIM = Value("TEXT...", str)
FILE = Value("FILE", _text)
NAME = Value("NAME", _name)
ID = Value("ID", _identifier)
MEMORY = Value("N[K|M|G]", _memory)
RINGBUF = Value("N[K|M]", _ringbuf)
SOCKET_PATH = Value("PATH", _socket_path)
VSOCK_PATH = Value("PATH", _vsock_path)
IP = Value("IP", _ip)
PORT = Value("PORT", _port)
ADDRESS = Value("unix:PATH|tcp:IP:PORT", _address)
HOST_FORWARD = Value("tcp|udp:[IP]:PORT-:PORT", _host_forward)
SNAPSHOT = Value("file:DIR", _snapshot)
UUID = Value("UUID", _uuid)
MAC = Value("MAC", _mac)
INTERFACE = Value("IFNAME", _interface)
