"""What a person at a terminal gets without asking."""

from stratovirt.cli.chardevs import SERIAL_ID
from stratovirt.cli.config import Config, Serial, StdioChardev

TERMINAL_APPEND = "console=ttyS0"


def with_terminal(config: Config) -> Config:
    """``config`` for a run whose stdin and stdout are a terminal.

    Without -serial the serial port is this terminal; then without -append the kernel is told so. Nothing
    changes for -daemonize, for the machine none, or when another chardev has stdio or the name serial0.
    """
    taken = any(isinstance(chardev, StdioChardev) or chardev.id == SERIAL_ID for chardev in config.chardevs)
    if config.serial is not None or config.daemonize or config.machine.type == "none" or taken:
        return config
    return config._replace(
        serial=Serial(SERIAL_ID),
        chardevs=(*config.chardevs, StdioChardev(SERIAL_ID)),
        append=TERMINAL_APPEND if config.append is None else config.append,
    )
