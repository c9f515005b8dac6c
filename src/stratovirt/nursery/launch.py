"""From a Config to a run: what can be refused at once is refused here, before trio starts.

The law: what is claimed here (sockets, files, the terminal, the pidfile) is given back here, on every
way out.
"""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack

import trio

from stratovirt.accel import choose
from stratovirt.boot.plan import BootRequest
from stratovirt.chardev.listener import SocketServer
from stratovirt.chardev.protocol import Chardev
from stratovirt.chardev.stdio import STDIN, STDOUT, Stdio
from stratovirt.cli import Config, config, with_terminal
from stratovirt.errors import OptionError
from stratovirt.machine.microvm import MicrovmSpec
from stratovirt.nursery import run
from stratovirt.nursery.backends import make_chardev, make_socket
from stratovirt.nursery.daemon import daemonize, pidfile
from stratovirt.nursery.monitors import Monitor, ReadlineMonitor
from stratovirt.qmp.flow import Throttle

log = logging.getLogger(__name__)


def launch(options: Config) -> int:
    """Run the machine that ``options`` describe; the process's exit code.

    :raises ConfigError: it cannot be had.
    """
    ready = daemonize() if options.daemonize else _nothing
    if _is_on_terminal():
        options = with_terminal(options)
    with ExitStack() as claimed:
        board = _board(options)
        chardevs = {spec.id: make_chardev(spec) for spec in options.chardevs}
        sockets = [_qmp_monitor(number, spec) for number, spec in enumerate(options.qmp)]
        monitors = [*sockets, *(_monitor(chardevs[spec.chardev], spec) for spec in options.mons)]
        for chardev in [*chardevs.values(), *(monitor.chardev for monitor in monitors)]:
            claimed.callback(chardev.close)
            chardev.open()
        claimed.enter_context(pidfile(options.pidfile))
        console = chardevs[options.serial.chardev] if options.serial and options.serial.chardev else None
        return run.main(
            run.Launch(
                board=board,
                console=console,
                console_shared=_is_shared(options, console),
                monitors=monitors,
                wait_for=_awaited(options, sockets, chardevs),
                ready=ready,
                freeze=options.freeze,
                reboot=not options.no_reboot,
                shutdown=not options.no_shutdown,
            )
        )


def _nothing() -> None:
    """What readiness means to a process in the foreground."""


def _is_on_terminal() -> bool:
    return os.isatty(STDIN) and os.isatty(STDOUT)


def _board(options: Config) -> MicrovmSpec | None:
    if options.machine.type == "none":
        return None
    if options.kernel is None:
        raise OptionError("-kernel", "is missing: a machine of type microvm boots a kernel")
    request = BootRequest(
        kernel=options.kernel,
        initrd=options.initrd,
        cmdline=options.append or "",
        memory_size=options.memory,
        cpus=options.smp.cpus,
        acpi=options.machine.acpi,
    )
    accelerator = choose.choose(options.machine.accel)
    log.info("%s", accelerator)
    return MicrovmSpec(accelerator, request)


def _qmp_monitor(number: int, spec: config.QmpMonitor) -> Monitor:
    return Monitor(make_socket(f"compat_monitor{number}", spec.address, server=True), Throttle(spec.throttle))


def _monitor(chardev: Chardev, spec: config.Mon) -> Monitor | ReadlineMonitor:
    return ReadlineMonitor(chardev) if spec.mode == "readline" else Monitor(chardev, Throttle.DELAY)


def _is_shared(options: Config, console: Chardev | None) -> bool:
    """Do Ctrl-a's keys work? If asked for, or for a person: other input may carry any byte."""
    asked = options.serial is not None and options.serial.monitor
    return asked or (isinstance(console, Stdio) and console.is_terminal)


def _awaited(options: Config, monitors: list[Monitor], chardevs: dict[str, Chardev]) -> list[trio.Event]:
    """The first connections that hold the boot: of every listener given without ``nowait``."""
    listeners = [monitor.chardev for monitor, spec in zip(monitors, options.qmp, strict=True) if spec.wait]
    listeners += [
        chardevs[spec.id] for spec in options.chardevs if isinstance(spec, config.SocketChardev) and spec.wait
    ]
    return [listener.first_client for listener in listeners if isinstance(listener, SocketServer)]
