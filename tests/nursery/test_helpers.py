"""What helper programs print goes to the log line by line, and so does their end; none is left unlistened."""

from __future__ import annotations

import logging
import os

import pytest
import trio
import trio.testing

from stratovirt.nursery.helpers import LONGEST_LINE, Helper, Helpers

WITHIN = 10


def killed() -> bool:
    """Nobody has told it to end."""
    return False


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


async def test_words_and_end_of_a_helper_are_logged(
    nursery: trio.Nursery, log: pytest.LogCaptureFixture
) -> None:
    helpers = Helpers()
    before, write_before = os.pipe()
    helpers.adopt(Helper("early", before, killed))  # before the tree runs
    nursery.start_soon(helpers.run)
    await trio.testing.wait_all_tasks_blocked()
    later, write_later = os.pipe()
    await trio.to_thread.run_sync(helpers.adopt, Helper("later", later, killed))
    os.write(write_before, b"one line\nanoth")
    os.write(write_later, b"x" * (LONGEST_LINE + 1))
    await trio.testing.wait_all_tasks_blocked()
    os.write(write_before, b"er\n\n")
    os.close(write_before)
    os.close(write_later)
    with trio.fail_after(WITHIN):
        while log.text.count("has ended") < 2:
            await trio.testing.wait_all_tasks_blocked(0.01)
    messages = [record.getMessage() for record in log.records]
    assert [text for text in messages if text.startswith("early")] == [
        "early: one line",
        "early: another",
        "early has ended",
    ]
    assert f"later: {'x' * (LONGEST_LINE + 1)}" in messages


async def test_an_end_that_its_backend_asked_for_is_no_news(
    nursery: trio.Nursery, log: pytest.LogCaptureFixture
) -> None:
    helpers = Helpers()
    output, write = os.pipe()
    helpers.adopt(Helper("ended", output, lambda: True))
    os.write(write, b"bye\n")
    os.close(write)
    nursery.start_soon(helpers.run)
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert [record.getMessage() for record in log.records] == ["ended: bye"]


async def test_a_helper_that_nobody_listened_to_is_let_go() -> None:
    helpers = Helpers()
    read, write = os.pipe()
    helpers.adopt(Helper("never", read, killed))
    helpers.close()
    with pytest.raises(BrokenPipeError):
        os.write(write, b"x")
    os.close(write)
