"""The console script: ``stratovirt-qmp SOCK`` for a shell, ``stratovirt-qmp SOCK COMMAND …`` for one result.

The law: stdout is the result and nothing else; the one line of an error goes to stderr. The exit status
is 0, 1 when a command was refused or nobody answered, 2 for usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial

from stratovirt.client import QmpCommandError, QmpError, QmpTimeout
from stratovirt.client.blocking import QmpClient, connect_tcp, connect_unix
from stratovirt.tools.qmp import syntax
from stratovirt.tools.qmp.shell import Shell

_NO_TERMINAL = "the interactive shell needs prompt_toolkit: pip install 'stratovirt[shell]'"


def main(argv: Sequence[str] | None = None) -> int:
    """The console script; returns the exit status."""
    options = _parser().parse_intermixed_args(argv)
    try:
        with _connect(options.socket) as client:
            shell = Shell(client, raw=options.json, timeout=options.timeout)
            if options.words:
                return _attempt(partial(shell.run, options.words))
            if not sys.stdin.isatty():
                return max((_attempt(partial(shell.run_line, line)) for line in sys.stdin), default=0)
            return _interact(client, shell)
    except QmpError as error:
        return _complain(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # spare the interpreter's last flush
        return 141  # what a shell reports for `… | head` when SIGPIPE ends the left side
    except KeyboardInterrupt:
        return 130  # what a shell reports for a command that SIGINT ended


def _attempt(run: Callable[[], str]) -> int:
    """One command, whose refusal ends no script."""
    try:
        text = run()
    except (QmpCommandError, QmpTimeout, syntax.Mistyped) as error:
        return _complain(error)
    if text:
        print(text, flush=True)
    return 0


def _interact(client: QmpClient, shell: Shell) -> int:
    try:
        from stratovirt.tools.qmp.terminal import interact  # 200 ms that a script is spared
    except ModuleNotFoundError as error:
        if error.name != "prompt_toolkit":
            raise
        return _complain(_NO_TERMINAL)
    return interact(client, shell)


def _complain(error: object) -> int:
    print(f"stratovirt-qmp: {error}", file=sys.stderr)
    return 1


def _connect(address: str) -> AbstractContextManager[QmpClient]:
    """A path, or HOST:PORT; what -qmp calls them, ``unix:`` and ``tcp:``, may stand before."""
    kind, colon, rest = address.partition(":")
    if kind == "unix" and colon:
        return connect_unix(rest)
    host, _, port = (rest if kind == "tcp" else address).rpartition(":")
    if port.isdecimal() and host and "/" not in host:
        return connect_tcp(host.strip("[]"), int(port))
    return connect_unix(address)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stratovirt-qmp",
        usage="%(prog)s [--json] [--timeout SECONDS] SOCK [COMMAND [KEY=VALUE …]]",
        description="Talk to a machine's QMP monitor. Without COMMAND: a shell, or lines from stdin.",
    )
    parser.add_argument("--json", action="store_true", help="print results and events as JSON")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="give up on a reply after this time")
    parser.add_argument("socket", metavar="SOCK", help="path of the monitor's unix socket, or HOST:PORT")
    parser.add_argument("words", metavar="COMMAND", nargs="*", help="execute it and leave")
    return parser


if __name__ == "__main__":
    sys.exit(main())
