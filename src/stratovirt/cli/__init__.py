"""The command line: argv in, a frozen Config out.

Here lives everything that knows how options are written: the table of options (``options``), the
readers of their values, the checks between options, the help text. What may not live here is anything
that acts: no file is opened, no host is asked, nothing is printed, and trio is not imported. ``cli``
imports only ``stratovirt.errors``; the rest of the package may import ``stratovirt.cli.config``.
"""

from stratovirt.cli.config import Config
from stratovirt.cli.help import help_text
from stratovirt.cli.notbuilt import refuse_not_built
from stratovirt.cli.options import EarlyExit
from stratovirt.cli.parse import parse
from stratovirt.cli.terminal import with_terminal

__all__ = ["Config", "EarlyExit", "help_text", "parse", "refuse_not_built", "with_terminal"]
