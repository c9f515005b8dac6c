"""The commands: one small async function each, grouped by what they manage.

A handler gets typed arguments and a :class:`stratovirt.qmp.handler.Context`; it sees the machine only
through its control interface. Names, arguments and documentation are in ``schemas/commands``; a new
command is a schema there, ``make docs``, and a function here.
"""

from stratovirt.qmp.commands import (
    balloon,
    block,
    chardevs,
    descriptors,
    hotplug,
    human,
    introspection,
    lifecycle,
    machine,
    migration,
    probing,
)

HANDLERS = (
    *block.HANDLERS,
    *chardevs.HANDLERS,
    *descriptors.HANDLERS,
    *balloon.HANDLERS,
    *hotplug.HANDLERS,
    *human.HANDLERS,
    *introspection.HANDLERS,
    *lifecycle.HANDLERS,
    *machine.HANDLERS,
    *migration.HANDLERS,
    *probing.HANDLERS,
)
