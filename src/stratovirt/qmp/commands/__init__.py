"""The commands: one small async function each, grouped by what they manage.

A handler gets typed arguments and a :class:`stratovirt.qmp.handler.Context`; it sees the machine only
through its control interface. Names, arguments and documentation are in ``schemas/commands``; a new
command is a schema there, ``python -m stratovirt.qmp.generate``, and a function here.
"""

from stratovirt.qmp.commands import introspection, lifecycle

HANDLERS = (*introspection.HANDLERS, *lifecycle.HANDLERS)
