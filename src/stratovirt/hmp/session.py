"""One person at a monitor: greeting, prompt, a line, its answer, the next prompt.

The law: one thing at a time. What is typed while a command runs waits in the stream, so nothing piles up
here; an answer is sent before what it brings about (``quit``) begins; and a session that fails fails alone.
"""

from __future__ import annotations

import logging

import trio

import stratovirt
from stratovirt.hmp.editor import Editor, Line
from stratovirt.hmp.interpreter import Interpreter

log = logging.getLogger(__name__)

PROMPT = "(stratovirt) "
BANNER = f"StratoVirt {stratovirt.__version__} monitor - type 'help' for more information\r\n"
READ_SIZE = 4096  # bytes; what a terminal in cooked mode sends at most
# What a stream may raise when its other end is gone.
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class HumanMonitor:
    """Serves people, each on a stream of their own."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.interpreter = interpreter

    async def serve_client(self, stream: trio.abc.Stream) -> None:
        """Serve one person until the stream ends or ``quit``. Raises nothing but cancellation."""
        try:
            await self._talk(stream)
        except GONE:
            pass  # whatever they did has been done
        except Exception:
            log.exception("a human monitor failed; the others go on")

    async def _talk(self, stream: trio.abc.Stream) -> None:
        editor = Editor(PROMPT, self.interpreter.complete)
        await _send(stream, BANNER + PROMPT)
        while data := await stream.receive_some(READ_SIZE):
            for item in editor.feed(data):
                if not isinstance(item, Line):
                    await _send(stream, item)
                elif not await self._obey(stream, item.text):
                    return

    async def _obey(self, stream: trio.abc.Stream, line: str) -> bool:
        """Carry out one line; False when it was the last."""
        answer = await self.interpreter.run(line)
        await _send(stream, answer.text if answer.then else answer.text + PROMPT)
        if answer.then is not None:
            answer.then()
        return answer.then is None


async def _send(stream: trio.abc.Stream, text: str) -> None:
    await stream.send_all(text.encode())
