"""Runs the campaigns: ``python -m tests.soak [WORD ...]`` runs those whose name has one of the words."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import trio

from stratovirt.errors import ConfigError
from tests.soak.campaigns import Campaign, campaigns
from tests.system.qmp import QmpError

DIRECTORY = Path(".soak")
PASSED = DIRECTORY / "passed.json"
LOG = DIRECTORY / "soak.log"
FAILURES = (
    *(AssertionError, OSError, ConfigError, QmpError),
    *(trio.TooSlowError, trio.BrokenResourceError),  # the machine hangs; it is gone
)


def main(words: list[str]) -> int:
    """0 if every round of every campaign chosen has passed."""
    DIRECTORY.mkdir(exist_ok=True)
    passed: dict[str, int] = json.loads(PASSED.read_text()) if PASSED.exists() else {}
    chosen = [each for each in campaigns() if not words or any(word in each.name for word in words)]
    failures = [campaign.name for campaign in chosen if not _run(campaign, passed)]
    _log(f"soak: {len(chosen) - len(failures)} of {len(chosen)} campaigns passed")
    return 1 if failures else 0


def _run(campaign: Campaign, passed: dict[str, int]) -> bool:
    """Run the rounds that have not passed yet; a failure ends the campaign."""
    start = time.monotonic()
    for number in range(passed.get(campaign.name, 0), campaign.rounds):
        if not _passes(campaign, number):
            return False
        passed[campaign.name] = number + 1
        PASSED.write_text(json.dumps(passed))
    _log(f"{campaign.name}: {campaign.rounds} of {campaign.rounds} passed ({time.monotonic() - start:.0f} s)")
    return True


def _passes(campaign: Campaign, number: int) -> bool:
    """Run one round and log its failure."""
    passes = True
    with tempfile.TemporaryDirectory(prefix="stratovirt-soak-") as directory:
        try:
            trio.run(campaign.check, number, Path(directory))
        except* FAILURES as failure:
            _log(f"{campaign.name}: FAILED in round {number}: {failure.exceptions}")
            passes = False
    return passes


def _log(line: str) -> None:
    print(line, flush=True)
    with LOG.open("a") as log:
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
