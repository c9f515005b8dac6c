"""``stratovirt``: argv → Config → run; nothing else. Two first words are about zygotes: docs/zygote.md."""

from __future__ import annotations

import gc
import os
import sys

EXIT_REFUSED = 1
STDIN, STDOUT = 0, 1


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["--via"]:  # first of all: it is for those who want to start fast
        from stratovirt.zygote.client import main as be_client

        return be_client(argv[1:])
    from stratovirt.errors import ConfigError
    from stratovirt.nursery import signalmask

    signalmask.block()
    gc.disable()  # until the run begins: collecting while importing took 50 ms
    try:
        return _be_zygote(argv[1:]) if argv[:1] == ["--zygote"] else _run(argv)
    except ConfigError as error:
        print(f"stratovirt: {error}", file=sys.stderr)
        return EXIT_REFUSED


def _be_zygote(words: list[str]) -> int:
    from stratovirt.errors import OptionError
    from stratovirt.zygote.server import serve

    if len(words) != 1:
        raise OptionError("--zygote", "takes the path of its socket, and nothing else")
    return serve(words[0], main)


def _run(argv: list[str]) -> int:
    from stratovirt import __version__
    from stratovirt.cli import EarlyExit, help_text, parse, refuse_not_built, with_terminal

    options = parse(argv)
    if isinstance(options, EarlyExit):
        _print(help_text().rstrip() if options is EarlyExit.HELP else f"StratoVirt {__version__}")
        return 0
    refuse_not_built(options)
    if os.isatty(STDIN) and os.isatty(STDOUT):
        options = with_terminal(options)

    from stratovirt.nursery.daemon import daemonize
    from stratovirt.nursery.deferred import UNUSED_BY_A_BOOT, defer

    ready = daemonize() if options.daemonize else _nothing
    defer(*UNUSED_BY_A_BOOT)
    from stratovirt.nursery.prelude import Preparation

    with Preparation(options) as preparation:
        from stratovirt.nursery.launch import launch
        from stratovirt.nursery.log import set_up_log

        set_up_log(options)
        return launch(options, preparation, ready)


def _print(text: str) -> None:
    """To a reader that may leave before the end, as ``head`` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # for Python's own flush at exit


def _nothing() -> None:
    """What readiness means to a process in the foreground."""


if __name__ == "__main__":
    sys.exit(main())
