"""From a Config to a run: what can be refused at once is refused here, before trio starts.

The law: what is claimed here (sockets, files, the terminal, the pidfile) is given back here, on every
way out. Nothing uses trio before all is claimed and the guest has its head start: trio is loaded beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from stratovirt.chardev.listener import SocketServer
from stratovirt.chardev.port import BytePort
from stratovirt.chardev.protocol import Chardev
from stratovirt.chardev.stdio import Stdio
from stratovirt.cli import Config, config
from stratovirt.errors import OptionError
from stratovirt.nursery.backends import make_chardev, make_socket
from stratovirt.nursery.chardevs import MONITOR, Chardevs
from stratovirt.nursery.daemon import pidfile
from stratovirt.nursery.plugging import Plugboard
from stratovirt.nursery.prelude import Preparation

log = logging.getLogger(__name__)


class Claimed(NamedTuple):
    """What a run has of the host.

    :ivar sockets: of ``-qmp``, in the command line's order.
    :ivar port: where the line of the first serial port ends.
    """

    chardevs: Chardevs
    sockets: Sequence[Chardev]
    port: BytePort
    plugboard: Plugboard


def launch(options: Config, preparation: Preparation, ready: Callable[[], None]) -> int:
    """Run the machine that ``options`` describe and ``preparation`` builds; the process's exit code.

    :param ready: called when monitors answer and the machine is built.
    :raises ConfigError: it cannot be had.
    """
    log.info("%s", preparation.accelerator)
    preparation.check()
    with ExitStack() as stack:
        claimed = _claim(options, stack)
        waited_for = _waited_for(options, claimed)
        stack.callback(preparation.discard_board)
        preparation.build(
            claimed.plugboard.devices,
            preparation.claim_ram(stack),
            claimed.port,
            head_start=not options.freeze and not waited_for,
        )
        return _run(options, preparation, ready, claimed, waited_for)


def _claim(options: Config, stack: ExitStack) -> Claimed:
    chardevs = Chardevs()
    stack.callback(chardevs.close)
    for spec in options.chardevs:
        chardevs.add(make_chardev(spec))
    sockets = [_add_socket(number, spec, chardevs) for number, spec in enumerate(options.qmp)]
    for chardev in chardevs:
        chardev.open()
    stack.enter_context(pidfile(options.pidfile))
    port = BytePort()
    stack.callback(port.close)
    serial = options.serial.chardev if options.serial is not None else None
    if any(spec.id == serial and _reads_at_once(spec) for spec in options.chardevs):
        port.expect_reader()
    return Claimed(chardevs, sockets, port, Plugboard(options, stack, chardevs))


def _add_socket(number: int, spec: config.QmpMonitor, chardevs: Chardevs) -> Chardev:
    socket = make_socket(f"compat_monitor{number}", spec.address, server=True)
    if socket.id in chardevs:
        raise OptionError(f"-chardev id={socket.id}", "is the name of a -qmp monitor")
    chardevs.add(socket)
    return socket


def _reads_at_once(spec: config.Chardev) -> bool:
    """Is there a reader from the start, not only once somebody has connected?"""
    return not isinstance(spec, config.PtyChardev) and not (
        isinstance(spec, config.SocketChardev) and spec.server
    )


def _run(
    options: Config,
    preparation: Preparation,
    ready: Callable[[], None],
    claimed: Claimed,
    waited_for: Sequence[SocketServer],
) -> int:
    """Load trio and what needs it, while the guest already runs, and run the tree."""
    from stratovirt.nursery import describe, monitors, run

    chardevs = claimed.chardevs
    return run.main(
        run.Launch(
            take_board=preparation.take_board,
            tidy=preparation.tidy,
            port=claimed.port,
            console=_serial(options, chardevs),
            monitors=monitors.make(options, claimed.sockets, chardevs),
            terminal=_terminal(options, chardevs),
            wait_for=[listener.first_client for listener in waited_for],
            ready=ready,
            freeze=options.freeze,
            incoming=options.incoming is not None,
            reboot=not options.no_reboot,
            shutdown=not options.no_shutdown,
            info=describe.machine_info(options, preparation.accelerator.name),
            fittings=claimed.plugboard,
            tasks=[claimed.plugboard.helpers.run],
        )
    )


def _serial(options: Config, chardevs: Chardevs) -> Chardev | None:
    """The first serial port's."""
    if options.serial is None or options.serial.chardev is None:
        return None
    return chardevs.use(options.serial.chardev, "the serial port")


def _carriers(options: Config, chardevs: Chardevs) -> list[Chardev]:
    """The character devices of the guest's consoles."""
    serial = options.serial.chardev if options.serial else None
    ids = [serial, *(device.get("chardev") for device in options.devices)]
    return [chardevs[str(id)] for id in ids if id]


def _terminal(options: Config, chardevs: Chardevs) -> Chardev | None:
    """The console where Ctrl-a's keys work: if asked for, or for a person; other input may carry any byte."""
    asked = options.serial is not None and options.serial.monitor
    for console in _carriers(options, chardevs):
        if isinstance(console, Stdio) and (asked or console.is_terminal):
            return chardevs.use(console.id, MONITOR)
    return None


def _waited_for(options: Config, claimed: Claimed) -> list[SocketServer]:
    """Whose first connection holds the boot: every listener given without ``nowait``."""
    listeners = [socket for socket, spec in zip(claimed.sockets, options.qmp, strict=True) if spec.wait]
    listeners += [
        claimed.chardevs[spec.id]
        for spec in options.chardevs
        if isinstance(spec, config.SocketChardev) and spec.wait
    ]
    return [listener for listener in listeners if isinstance(listener, SocketServer)]
