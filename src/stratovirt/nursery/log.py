"""The log: ``-D FILE`` or stderr, at the level that STRATOVIRT_LOG_LEVEL names (default: warning)."""

from __future__ import annotations

import logging
import os

from stratovirt.cli.config import Config
from stratovirt.errors import ConfigError

LEVEL_VARIABLE = "STRATOVIRT_LOG_LEVEL"
LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
FILE_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
STDERR_FORMAT = "stratovirt: %(message)s"


def set_up_log(options: Config) -> None:
    """Open the log and warn about every option that has no effect.

    :raises ConfigError: the level is unknown or the file cannot be written.
    """
    if options.log_file is None:
        handler: logging.Handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(STDERR_FORMAT))
    else:
        handler = _file_handler(options.log_file)
    logging.raiseExceptions = False  # a full disk behind the log must not fill stderr with tracebacks
    root = logging.getLogger("stratovirt")
    root.addHandler(handler)
    root.setLevel(_level())
    for option in options.ignored:
        root.warning("%s: accepted for compatibility and ignored", option)


def _level() -> int:
    name = os.environ.get(LEVEL_VARIABLE, "warning")
    try:
        return LEVELS[name.lower()]
    except KeyError:
        raise ConfigError(f"{LEVEL_VARIABLE}={name}: must be one of {', '.join(LEVELS)}") from None


def _file_handler(path: str) -> logging.Handler:
    try:
        handler = logging.FileHandler(path)
    except OSError as error:
        raise ConfigError(f"-D {path}: {error.strerror}") from error
    handler.setFormatter(logging.Formatter(FILE_FORMAT))
    return handler
