"""Writers of snapshots that are killed, again and again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import trio

from tests.soak.sanitized import PROJECT

KILLS = 20


async def kills(number: int, directory: Path) -> None:
    """Each of KILLS writers, killed at a random moment, leaves a whole snapshot; other moments each round."""
    script = [sys.executable, "-m", "tests.migration.crashes"]
    arguments = ["kills", str(directory / "snapshot"), str(KILLS), str(number)]
    done = await trio.run_process(
        [*script, *arguments], cwd=PROJECT, capture_stdout=True, stderr=subprocess.STDOUT, check=False
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")
    assert len(done.stdout.split()) == KILLS
