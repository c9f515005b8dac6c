"""What holds for every command line: lists survive being written out, and nothing but one line goes wrong."""

import string
from collections.abc import Mapping

from hypothesis import example, given
from hypothesis import strategies as st

from stratovirt.cli import Config, EarlyExit, parse
from stratovirt.cli.config import MIB, Drive, FileChardev, QmpMonitor, Smp, UnixAddress
from stratovirt.cli.options import OPTIONS
from stratovirt.cli.schema import Key, Keys, split
from stratovirt.cli.values import TEXT, is_word
from stratovirt.errors import OptionError

IDS = st.text(string.ascii_letters + string.digits, min_size=1).map(lambda text: text[:20])
PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=20)
VALUES = PRINTABLE | st.text(",=-a", min_size=1, max_size=8)


def escaped(value: str) -> str:
    """``value`` as it stands in a list."""
    return value.replace(",", ",,")


def rendered(pairs: Mapping[str, str]) -> str:
    """``pairs`` as a list."""
    return ",".join(f"{key}={escaped(value)}" for key, value in pairs.items())


def parsed(*argv: str) -> Config:
    config = parse(["-kernel", "vmlinux", *argv])
    assert isinstance(config, Config)
    return config


@given(st.lists(VALUES.filter(lambda value: not value.startswith(",")), min_size=1))
def test_splitting_undoes_joining(values: list[str]) -> None:
    """QEMU reads ``,,,`` as a comma that ends a value: what starts with one needs its key in front."""
    assert split(",".join(escaped(value) for value in values)) == values


@given(st.dictionaries(IDS, VALUES, min_size=1))
def test_a_list_gives_back_every_value(pairs: dict[str, str]) -> None:
    schema = Keys(dict, tuple(Key(name, TEXT, argument=name) for name in pairs))
    assert schema.read(rendered(pairs)) == pairs


@given(IDS, VALUES, st.booleans(), st.integers(0, 1_000_000))
def test_a_drive_survives_being_written_out(id: str, file: str, readonly: bool, iops: int) -> None:
    pairs = {
        "id": id,
        "file": file,
        "readonly": "on" if readonly else "off",
        "throttling.iops-total": str(iops),
    }
    assert parsed("-drive", rendered(pairs)).drives == (Drive(file, id, readonly, iops_total=iops),)


@given(IDS, VALUES)
def test_a_file_chardev_survives_being_written_out(id: str, path: str) -> None:
    chardev = f"file,{rendered({'id': id, 'path': path})}"
    assert parsed("-chardev", chardev).chardevs == (FileChardev(id, path),)


@given(VALUES)
def test_a_socket_path_may_hold_anything(path: str) -> None:
    address = escaped(f"unix:/{path}")
    assert parsed("-qmp", f"{address},server,nowait").qmp == (
        QmpMonitor(UnixAddress(f"/{path}"), wait=False),
    )


@given(VALUES.filter(str.isprintable))
def test_a_name_may_stand_without_its_key(name: str) -> None:
    if name.startswith("-") or is_word(name.partition("=")[0]):
        name = f"a vm {name}"  # neither an option nor a key
    assert parsed("-name", escaped(name)).name == parsed("-name", f"guest={escaped(name)}").name == name


@given(st.integers(128, 512 * 1024))
def test_memory_is_in_mebibytes_without_a_suffix(size: int) -> None:
    assert parsed("-m", str(size)).memory == parsed("-m", f"{size}M").memory == size * MIB


@given(
    st.lists(st.sampled_from([1, 2, 3, 4]), min_size=5, max_size=5).filter(
        lambda counts: product(counts) <= 254
    )
)
def test_a_full_topology_is_taken_as_given(counts: list[int]) -> None:
    names = ("sockets", "dies", "clusters", "cores", "threads")
    most = product(counts)
    text = rendered({"cpus": "1", "maxcpus": str(most)} | dict(zip(names, map(str, counts), strict=True)))
    assert parsed("-smp", text).smp == Smp(1, most, *counts)


@given(
    st.integers(1, 254),
    st.sampled_from(["sockets", "dies", "clusters", "cores", "threads"]),
    st.integers(1, 8),
)
def test_a_topology_multiplies_to_maxcpus_or_is_refused(cpus: int, level: str, count: int) -> None:
    try:
        smp = parsed("-smp", f"{cpus},{level}={count}").smp
    except OptionError:
        assert cpus % count
    else:
        assert smp.sockets * smp.dies * smp.clusters * smp.cores * smp.threads == smp.maxcpus == cpus


def product(counts: list[int]) -> int:
    result = 1
    for count in counts:
        result *= count
    return result


OPTION_WORDS = st.sampled_from(sorted(OPTIONS)).map(lambda name: f"-{name}")
DRIVERS = ["virtio-blk-device", "virtio-net-device", "rng-random", "iothread", "drive", "netdev", "filename"]
CHARDEVS = [
    "stdio",
    "null",
    "ringbuf",
    "socket",
    "file",
    "path",
    "host",
    "server",
    "nowait",
    "wait=off",
    "chardev:",
]
MACHINES = [
    "microvm",
    "q35",
    "none",
    "accel",
    "kvm",
    "tcg",
    "size",
    "128M",
    "512G",
    "mode",
    "control",
    "chardev",
]
NETWORK = ["tap", "fds", "fd", "vhost", "unix:", "tcp:", "[::1]", "127.0.0.1", ":"]
SIGNS = ["id", "a", "b", "0", "1", "254", "+", "-", ",", ",,", "=", "\0", "\n", "\udcff", "\ud800", "é", "²"]
FRAGMENTS = st.sampled_from([*DRIVERS, *CHARDEVS, *MACHINES, *NETWORK, *SIGNS])
LISTS = st.lists(FRAGMENTS | st.sampled_from([",", "="]), max_size=8).map("".join)
WORDS = OPTION_WORDS | LISTS | st.text(max_size=10)


@given(st.lists(WORDS, max_size=12))
@example(["-m", "9" * 5000])
@example(["-smp", "²"])
@example(["-chardev", ""])
@example(["-cpu", ","])
@example([""])
@example(["-"])
@example(["--"])
def test_any_words_give_a_config_or_one_line_of_error(argv: list[str]) -> None:
    """No other exception leaves the parser, and the line can be printed anywhere."""
    result = outcome(argv)
    if isinstance(result, str):
        assert result.isprintable()
        assert all(result.partition(": ")), "both the option and what is wrong with it"
    else:
        assert isinstance(result, Config | EarlyExit)


@given(st.lists(WORDS, max_size=12))
def test_reading_twice_gives_the_same(argv: list[str]) -> None:
    """The parser keeps no state."""
    assert outcome(argv) == outcome(argv)


def outcome(argv: list[str]) -> object:
    try:
        return parse(argv)
    except OptionError as error:
        return str(error)
