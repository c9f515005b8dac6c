"""Flow control, per client: 100 commands at once and 100 a second; delay loses none, reject says so."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.qmp.flow import CAPACITY, RATE, Throttle, TokenBucket
from tests.protocol.fakes import supervised


def test_a_full_bucket_gives_its_capacity_at_once_and_then_nothing() -> None:
    bucket = TokenBucket(10.0)
    assert [bucket.take(10.0) for _ in range(CAPACITY + 1)] == [True] * CAPACITY + [False]
    assert bucket.take(10.0 + 1.01 / RATE)
    assert not bucket.take(10.0 + 1.02 / RATE)


def test_a_long_rest_fills_it_to_its_capacity_and_no_further() -> None:
    bucket = TokenBucket(0.0)
    assert sum(bucket.take(1e6) for _ in range(3 * CAPACITY)) == CAPACITY


@given(st.lists(st.floats(0, 0.05), max_size=400))
def test_no_second_ever_sees_more_than_capacity_and_rate(gaps: list[float]) -> None:
    bucket, now, taken = TokenBucket(0.0), 0.0, 0
    for gap in gaps:
        now += gap
        taken += bucket.take(now)
        assert taken <= CAPACITY + now * RATE + 1e-6


def test_reserved_tokens_come_one_at_a_time() -> None:
    bucket = TokenBucket(0.0)
    waits = [bucket.reserve(0.0) for _ in range(CAPACITY + 3)]
    assert waits == pytest.approx([0.0] * CAPACITY + [1 / RATE, 2 / RATE, 3 / RATE])


async def test_delay_answers_everything_in_order_at_the_sustained_rate(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with supervised() as here:
        client = await here.client(Throttle.DELAY)
        began = trio.current_time()
        count = CAPACITY + 2 * RATE
        requests = b"".join(b'{"execute":"query-status","id":%d}' % number for number in range(count))
        await client.send(requests, *["query-status"] * count)
        answers = [await client.answer() for _ in range(count)]
        assert [answer["id"] for answer in answers] == list(range(count))
        assert trio.current_time() - began == pytest.approx(2.0)


async def test_reject_answers_what_is_too_much_with_an_error_and_its_id(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with supervised() as here:
        client = await here.client(Throttle.REJECT)
        count = CAPACITY + 3
        requests = b"".join(b'{"execute":"query-status","id":%d}' % number for number in range(count))
        await client.send(requests, *["query-status"] * count)
        answers = [await client.answer() for _ in range(count)]
        assert ["return" in answer for answer in answers] == [True] * CAPACITY + [False] * 3
        assert answers[-1]["id"] == count - 1
        assert answers[-1]["error"]["class"] == "GenericError"
        assert "QMP rate limit: 100 commands per second" in answers[-1]["error"]["desc"]
        await trio.sleep(1)
        assert "return" in await client.execute("query-status")


async def test_malformed_requests_cost_a_token_and_events_cost_none(autojump_clock: trio.abc.Clock) -> None:
    async with supervised() as here:
        client = await here.client(Throttle.REJECT)
        other = await here.client()
        for _ in range(20):
            await other.execute("stop")
            await other.execute("cont")
        await client.send(b"oops\n" * CAPACITY)
        descs = [(await client.answer())["error"]["desc"] for _ in range(CAPACITY)]
        assert all("syntax error" in desc for desc in descs)
        assert len(client.events) == 40
        assert "rate limit" in (await client.execute("query-status"))["error"]["desc"]


async def test_each_client_has_a_bucket_of_its_own(autojump_clock: trio.abc.Clock) -> None:
    async with supervised() as here:
        greedy, modest = await here.client(), await here.client()
        await greedy.send(b'{"execute":"query-status"}' * 1000, *["query-status"] * 1000)
        began = trio.current_time()
        assert "return" in await modest.execute("query-status")
        assert trio.current_time() - began < 1 / RATE
