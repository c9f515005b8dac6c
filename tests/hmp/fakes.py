"""Two worlds for an interpreter: the real server with a fake machine, and a script of answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stratovirt.errors import CommandError
from stratovirt.hmp.interpreter import Interpreter
from stratovirt.machine.inventory import NetworkInfo
from stratovirt.qmp.dispatcher import Outcome
from stratovirt.qmp.protocol import Request
from stratovirt.qmp.protocol.messages import encode
from stratovirt.qmp.server import QmpServer
from tests.protocol.fakes import FakeControl

VERSION = "1.2.3"


def real() -> tuple[Interpreter, FakeControl]:
    """An interpreter over this version's own commands, and the machine behind them."""
    control = FakeControl()
    server = QmpServer(control, version=VERSION)
    return Interpreter(server.dispatcher, server.registry, control.inventory.networks), control


class Script:
    """Knows the commands in ``answers``, answers with those values, and notes what it was asked."""

    def __init__(self, answers: dict[str, Any], networks: Sequence[NetworkInfo] = ()) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.commands = answers
        self.interpreter = Interpreter(self, self, lambda: networks)  # type: ignore[arg-type]

    async def run(self, request: Request) -> Outcome:
        self.asked.append((request.command, request.arguments))
        answer = self.commands[request.command]
        if isinstance(answer, CommandError):
            raise answer
        return Outcome(encode(answer), None)


async def text(interpreter: Interpreter, line: str) -> str:
    """What ``line`` is answered, with plain newlines."""
    answer = (await interpreter.run(line)).text
    assert answer.count("\n") == answer.count("\r\n") == answer.count("\r")
    assert answer == "" or answer.endswith("\n")
    return answer.replace("\r\n", "\n")
