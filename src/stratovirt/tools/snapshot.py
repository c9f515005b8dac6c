"""``stratovirt-snapshot info DIR``: what is in a snapshot, and whether it is intact.

The law: stdout is the table, or one JSON object; progress, if stderr is a terminal, and the one line of an
error go to stderr. The exit status is 0, 1 when the snapshot is damaged or is none, 2 for usage.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from stratovirt.errors import SnapshotError
from stratovirt.migration.image import TRAILER_SIZE
from stratovirt.migration.reader import Snapshot, open_snapshot
from stratovirt.migration.verify import Chunk, damaged_ranges, verify
from stratovirt.vmstate.codec import FORMAT

_MACHINE = "machine"
"""The section with facts for people; the others are for the devices that saved them."""

Facts = Mapping[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """The console script; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        with open_snapshot(arguments.directory) as snapshot:
            facts = _facts(snapshot)
        print(json.dumps(facts, default=_plain) if arguments.json else _table(arguments.directory, facts))
    except SnapshotError as error:
        return _complain(str(error))
    except OSError as error:
        return _complain(f"{arguments.directory}: {error.strerror}")
    except KeyboardInterrupt:
        return 130  # what a shell reports for a command that SIGINT ended
    if damaged := facts["memory"]["damaged"]:
        return _complain(f"{os.path.join(arguments.directory, 'memory')}: damaged: {_ranges(damaged)}")
    return 0


def _complain(text: str) -> int:
    print(f"stratovirt-snapshot: {text}", file=sys.stderr)
    return 1


def _facts(snapshot: Snapshot) -> Facts:
    """What ``--json`` prints."""
    used = os.fstat(snapshot.memory_fd).st_blocks * 512 - TRAILER_SIZE
    chunks = _watched(verify(snapshot.memory_fd, snapshot.image), snapshot.memory_size)
    return {
        "format": FORMAT,
        "machine": next((each.state for each in snapshot.sections if each.name == _MACHINE), {}),
        "sections": {each.name: each.version for each in snapshot.sections},
        "memory": {
            "uuid": snapshot.image.uuid,
            "size": snapshot.memory_size,
            "used": max(0, used),
            "damaged": list(damaged_ranges(chunks)),
        },
    }


def _watched(chunks: Iterable[Chunk], size: int) -> Iterator[Chunk]:
    """The same, with a percentage on the terminal meanwhile."""
    watched = sys.stderr.isatty()
    for chunk in chunks:
        if watched:
            print(f"\rverifying memory: {100 * chunk.end // size} %", end="", file=sys.stderr, flush=True)
        yield chunk
    if watched:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _table(directory: str, facts: Facts) -> str:
    memory = facts["memory"]
    rows = [
        ("snapshot", directory),
        ("format", str(facts["format"])),
        *(row for key, value in facts["machine"].items() if key != "memory" for row in _rows(key, value)),
        ("sections", ", ".join(f"{name} {version}" for name, version in facts["sections"].items())),
        ("memory", f"{_mib(memory['size'])}, of which {_mib(memory['used'])} are stored"),
        ("contents", f"damaged: {_ranges(memory['damaged'])}" if memory["damaged"] else "intact"),
    ]
    width = max(len(key) for key, _ in rows)
    return "\n".join(f"{key:<{width}}  {text}" for key, text in rows)


def _rows(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """A fact that has parts takes a row for each."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _rows(f"{key} {name}", part)
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        for part in value:
            yield from _rows(key, _text(part))
    else:
        yield key, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_text(part)}" for key, part in value.items())
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return value.hex() if isinstance(value, bytes) else str(value)


def _plain(value: bytes) -> str:
    """JSON has no bytes."""
    return value.hex()


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"


def _ranges(ranges: Iterable[tuple[int, int]]) -> str:
    return ", ".join(f"{start:#x}-{end - 1:#x}" for start, end in ranges)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stratovirt-snapshot", description="Look at snapshots.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    info = commands.add_parser("info", help="show what is in a snapshot, and verify its checksums")
    info.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    info.add_argument("directory", metavar="DIR", help="the snapshot's directory")
    return parser


if __name__ == "__main__":
    sys.exit(main())
