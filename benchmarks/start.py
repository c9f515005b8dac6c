"""Exec to the first ``query-status`` reply: how soon a new machine answers its manager.

The manager connects as soon as somebody listens, negotiates and asks; the guest, a stock Debian kernel that
each side has in the form that it loads fastest, boots meanwhile.
"""

import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from benchmarks.guests import CLOUD, boot_options, fastest_form, kernel
from benchmarks.harness import SIDES, Effort, Failed, Figure, Runs, interleave, join, running, vmm, zygote
from benchmarks.load import ANSWER, QUERY, connected, read_line

FIGURE = Figure("first query-status reply", "ms", target=3.0)
FROM_ZYGOTE = Figure("first query-status reply, from a zygote", "ms", target=1.0)
FIGURES = (FIGURE, FROM_ZYGOTE)


def measure(effort: Effort) -> Mapping[str, Runs]:
    """Both sides in turns; the load is short as it is."""
    image = kernel(CLOUD, effort)
    alone = {side: partial(_run, side, image, FIGURE.name, None) for side in SIDES}
    with zygote() as socket:
        beside = {side: partial(_run, side, image, FROM_ZYGOTE.name, socket) for side in SIDES}
        return join(interleave(alone, effort.runs), interleave(beside, effort.runs))


def _run(side: str, image: Path, figure: str, parent: Path | None) -> Mapping[str, float]:
    with tempfile.TemporaryDirectory(prefix="stratovirt-bench-") as directory:
        path = Path(directory, "qmp")
        options = boot_options(image, fastest_form(side, image), "up")
        command = vmm(side, "-qmp", f"unix:{path},server,nowait", *options, zygote=parent)
        start = time.monotonic()
        with running(command), connected(path) as client:
            client.sendall(QUERY)
            answer = read_line(client)
            seconds = time.monotonic() - start
    if ANSWER not in answer:
        raise Failed(f"query-status is answered by {answer!r}")
    return {figure: seconds * 1000}
