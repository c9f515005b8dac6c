"""Every exception that this package raises on purpose, drawn once.

::

    StratovirtError
    ├── ConfigError           the command line, or a file that it names, cannot be used: exit 1
    │   ├── OptionError       an option's value is wrong (names the option)
    │   ├── ImageError        a kernel or initrd file is missing, truncated or of the wrong kind
    │   ├── AcceleratorUnavailable   this host cannot run the accelerator asked for
    │   └── SnapshotError     a snapshot cannot be taken, read, or put into this machine
    │       └── SnapshotCancelled   it was cancelled while it was taken
    ├── CommandError          a management command is refused; carries its QMP error class
    ├── AcceleratorError      a vCPU cannot go on: the machine stops with status internal-error
    └── QmpError              what a program that uses stratovirt.client can see
        ├── QmpConnectError   nobody listens, or what answers is not QMP or refuses another client
        ├── QmpCommandError   the server refused a command; carries class, desc and command
        ├── QmpTimeout        no reply or event in time; the connection can still be used
        └── QmpDisconnected   the connection has ended: the machine is gone, or broke the protocol

The text of each is one sentence that names what was wrong and why, fit to be shown as it is.
"""

from typing import Self


class StratovirtError(Exception):
    """Base of the tree."""


class ConfigError(StratovirtError):
    """What was asked for on the command line cannot be had; the text follows ``stratovirt: ``."""


class OptionError(ConfigError):
    """A command line option is wrong.

    :param option: the option as typed, with its dash: ``-smp``.
    :param problem: what is wrong with it, with the allowed values or the nearest valid name.
    """

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(f"{option}: {problem}")
        self.option = option
        self.problem = problem

    @classmethod
    def about(cls, option: str, error: Exception) -> Self:
        """For an error whose text starts with the value: ``-kernel /nope: No such file or directory``."""
        value, _, problem = str(error).partition(": ")
        return cls(f"{option} {value}", problem)


class ImageError(ConfigError):
    """A guest image cannot be loaded; the text starts with its path."""


class AcceleratorUnavailable(ConfigError):
    """This host cannot run the accelerator that was asked for."""


class SnapshotError(ConfigError):
    """A snapshot cannot be taken, read, or put into this machine; the text says what is wrong."""


class SnapshotCancelled(SnapshotError):
    """The snapshot was cancelled while it was taken; nothing of it is left."""


class CommandError(StratovirtError):
    """A management command is refused.

    :param desc: a sentence that names the command or argument, the value and the reason.
    :param error_class: the class on the QMP wire; closed enumerations in clients allow no others
        than GenericError, CommandNotFound, DeviceNotActive, DeviceNotFound and KVMMissingCap.
    """

    def __init__(self, desc: str, error_class: str = "GenericError") -> None:
        super().__init__(desc)
        self.desc = desc
        self.error_class = error_class


class AcceleratorError(StratovirtError):
    """A vCPU stopped in a way that nothing can repair.

    :param reason: one line for people and for QMP.
    :param registers: register name to value at the moment of the failure, for the log.
    """

    def __init__(self, reason: str, registers: dict[str, int] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.registers = registers or {}


class QmpError(StratovirtError):
    """A client's conversation with a QMP server did not go as asked."""


class QmpConnectError(QmpError):
    """There is no QMP server there that would serve this client."""


class QmpCommandError(QmpError):
    """The server answered an error.

    :param error_class: the class on the wire.
    :param desc: the server's sentence.
    :param command: what was to be executed.
    """

    def __init__(self, error_class: str, desc: str, command: str) -> None:
        super().__init__(desc)
        self.error_class = error_class
        self.desc = desc
        self.command = command


class QmpTimeout(QmpError, TimeoutError):
    """The server did not answer, or an event did not come, in the time given."""


class QmpDisconnected(QmpError):
    """The connection has ended; the text says how."""
