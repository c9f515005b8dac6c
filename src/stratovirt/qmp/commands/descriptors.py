"""Descriptors that come by SCM_RIGHTS."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stratovirt.errors import CommandError
from stratovirt.qmp.handler import Context, Reply, command
from stratovirt.qmp.protocol.messages import quote

if TYPE_CHECKING:
    from stratovirt.qmp.arguments import Closefd, Getfd


@command("getfd")
async def getfd(context: Context, arguments: Getfd) -> Reply:
    if context.received is None:
        raise CommandError("getfd: this connection cannot carry file descriptors, only a unix socket can")
    fd = context.received.take()
    if fd is None:
        name = quote(arguments.fdname)
        raise CommandError(f"getfd: no file descriptor has come for {name}, with this message or before it")
    context.named.put(arguments.fdname, fd)
    return Reply()


@command("closefd")
async def closefd(context: Context, arguments: Closefd) -> Reply:
    os.close(context.named.take("closefd", arguments.fdname))
    return Reply()


HANDLERS = (getfd, closefd)
