"""From a Config to a run: what can be refused at once is refused here, before trio starts.

The law: what is claimed here (sockets, files, the terminal, the pidfile) is given back here, on every
way out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack

import trio

from stratovirt.chardev.listener import SocketServer
from stratovirt.chardev.protocol import Chardev
from stratovirt.chardev.stdio import Stdio
from stratovirt.cli import Config, config
from stratovirt.errors import OptionError
from stratovirt.nursery import run
from stratovirt.nursery.backends import make_chardev, make_socket
from stratovirt.nursery.chardevs import Chardevs
from stratovirt.nursery.daemon import pidfile
from stratovirt.nursery.describe import machine_info
from stratovirt.nursery.monitors import Monitor, ReadlineMonitor
from stratovirt.nursery.plugging import Plugboard
from stratovirt.nursery.prelude import Preparation
from stratovirt.nursery.ram import claim_ram
from stratovirt.qmp.flow import Throttle

log = logging.getLogger(__name__)

MONITOR = "a monitor"


def launch(options: Config, preparation: Preparation, ready: Callable[[], None]) -> int:
    """Run the machine that ``options`` describe and ``preparation`` builds; the process's exit code.

    :param ready: called when monitors answer and the machine is built.
    :raises ConfigError: it cannot be had.
    """
    log.info("%s", preparation.accelerator)
    preparation.check()
    with ExitStack() as claimed:
        chardevs = Chardevs()
        claimed.callback(chardevs.close)
        for spec in options.chardevs:
            chardevs.add(make_chardev(spec))
        sockets = [_qmp_monitor(number, spec, chardevs) for number, spec in enumerate(options.qmp)]
        monitors = [*sockets, *(_monitor(spec, chardevs) for spec in options.mons)]
        for chardev in chardevs:
            chardev.open()
        claimed.enter_context(pidfile(options.pidfile))
        console = _serial(options, chardevs)
        plugboard = Plugboard(options, claimed, chardevs)
        preparation.build(plugboard.devices, claim_ram(options, claimed))
        return run.main(
            run.Launch(
                take_board=preparation.take_board,
                console=console,
                terminal=_terminal(options, chardevs),
                monitors=monitors,
                wait_for=_awaited(options, sockets, chardevs),
                ready=ready,
                freeze=options.freeze,
                reboot=not options.no_reboot,
                shutdown=not options.no_shutdown,
                info=machine_info(options, preparation.accelerator.name),
                fittings=plugboard,
                tasks=[plugboard.helpers.run],
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


def _qmp_monitor(number: int, spec: config.QmpMonitor, chardevs: Chardevs) -> Monitor:
    socket = make_socket(f"compat_monitor{number}", spec.address, server=True)
    if socket.id in chardevs:
        raise OptionError(f"-chardev id={socket.id}", "is the name of a -qmp monitor")
    chardevs.add(socket)
    return Monitor(chardevs.use(socket.id, MONITOR), Throttle(spec.throttle))


def _monitor(spec: config.Mon, chardevs: Chardevs) -> Monitor | ReadlineMonitor:
    chardev = chardevs.use(spec.chardev, MONITOR)
    return ReadlineMonitor(chardev) if spec.mode == "readline" else Monitor(chardev, Throttle.DELAY)


def _terminal(options: Config, chardevs: Chardevs) -> Chardev | None:
    """The console where Ctrl-a's keys work: if asked for, or for a person; other input may carry any byte."""
    asked = options.serial is not None and options.serial.monitor
    for console in _carriers(options, chardevs):
        if isinstance(console, Stdio) and (asked or console.is_terminal):
            return chardevs.use(console.id, MONITOR)
    return None


def _awaited(options: Config, monitors: list[Monitor], chardevs: Chardevs) -> list[trio.Event]:
    """The first connections that hold the boot: of every listener given without ``nowait``."""
    listeners = [monitor.chardev for monitor, spec in zip(monitors, options.qmp, strict=True) if spec.wait]
    listeners += [
        chardevs[spec.id] for spec in options.chardevs if isinstance(spec, config.SocketChardev) and spec.wait
    ]
    return [listener.first_client for listener in listeners if isinstance(listener, SocketServer)]
