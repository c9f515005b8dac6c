"""Queries answer what the machine and the program are, not what an example says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from stratovirt.machine.balloon import GuestStatistics
from stratovirt.machine.info import MachineInfo, Place, Topology
from tests.protocol.client import Client
from tests.protocol.fakes import supervised

READ_ONCE = 1024
"""Bytes that one known client reads of query-cpus, once."""


@dataclass
class Answers:
    """What a machine answers."""

    client: Client

    async def of(self, command: str, **arguments: Any) -> Any:
        """The reply's return, which the client has validated."""
        return (await self.client.execute(command, arguments))["return"]


async def answers_of(info: MachineInfo, *commands: str) -> list[Any]:
    async with supervised() as here:
        here.control.info = info
        answers = Answers(await here.client())
        return [await answers.of(command) for command in commands]


BARE = MachineInfo()
RICH = MachineInfo(
    name="rich",
    uuid="00000000-0000-0000-0000-000000000001",
    accelerator="kvm",
    memory=1 << 30,
    vcpus=2,
    topology=Topology(cores=3),
)


@pytest.mark.parametrize(
    ("command", "bare", "rich"),
    [
        ("query-name", {}, {"name": "rich"}),
        (
            "query-uuid",
            {"UUID": "00000000-0000-0000-0000-000000000000"},
            {"UUID": "00000000-0000-0000-0000-000000000001"},
        ),
        ("query-kvm", {"enabled": False, "present": True}, {"enabled": True, "present": True}),
        (
            "query-memory-size-summary",
            {"base-memory": 0, "plugged-memory": 0},
            {"base-memory": 1 << 30, "plugged-memory": 0},
        ),
    ],
)
async def test_two_machines_answer_differently(command: str, bare: Any, rich: Any) -> None:
    assert [await answers_of(BARE, command), await answers_of(RICH, command)] == [[bare], [rich]]


async def test_vcpus_are_those_that_run_and_places_those_that_there_could_be() -> None:
    cpus, fast, places = await answers_of(RICH, "query-cpus", "query-cpus-fast", "query-hotpluggable-cpus")
    assert [cpu["CPU"] for cpu in cpus] == [cpu["cpu-index"] for cpu in fast] == [0, 1]
    assert [cpu["thread_id"] for cpu in cpus] == [cpu["thread-id"] for cpu in fast]
    assert [place.get("qom-path") for place in places] == [*(cpu["qom_path"] for cpu in cpus), None]
    assert [place["props"]["core-id"] for place in places] == [0, 1, 2]
    assert await answers_of(BARE, "query-cpus", "query-cpus-fast", "query-hotpluggable-cpus") == [[], [], []]


@pytest.mark.parametrize(
    ("topology", "places"),
    [
        (Topology(cores=3), [(0, 0, 0, 0), (0, 0, 1, 0), (0, 0, 2, 0)]),
        (Topology(sockets=2, threads=2), [(0, 0, 0, 0), (0, 0, 0, 1), (1, 0, 0, 0), (1, 0, 0, 1)]),
        (Topology(dies=2, cores=2), [(0, 0, 0, 0), (0, 0, 1, 0), (0, 1, 0, 0), (0, 1, 1, 0)]),
        (Topology(clusters=2, threads=2), [(0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0), (0, 0, 1, 1)]),
    ],
)
def test_vcpus_fill_a_core_then_a_die_then_a_socket(
    topology: Topology, places: list[tuple[int, ...]]
) -> None:
    assert topology.places == len(places)
    assert [topology.place(index) for index in range(len(places))] == [Place(*place) for place in places]


async def test_query_cpus_of_four_vcpus_fits_into_one_small_read() -> None:
    async with supervised() as here:
        client, stream = await here.connect()
        await client.execute("query-cpus", id="libvirt-1234567890")
        assert len(stream.sends[-1]) < READ_ONCE


async def test_guest_memory_is_read_as_a_little_endian_word_in_hexadecimal() -> None:
    async with supervised() as here:
        here.control.memory = {0x1000: 0xB9000001, 0x2000: 0}
        answers = Answers(await here.client())
        assert await answers.of("query-mem-gpa", gpa="1000") == "B9000001"
        assert await answers.of("query-mem-gpa", gpa="0x1000") == "B9000001"
        assert await answers.of("query-mem-gpa", gpa="2000") == "0"


@pytest.mark.parametrize("gpa", ["zz", "0x", "-1", " 1", "1_0", "1" * 17, "٣"])
async def test_what_is_no_address_is_refused_by_name(gpa: str) -> None:
    async with supervised() as here:
        client = await here.client()
        desc = (await client.execute("query-mem-gpa", {"gpa": gpa}))["error"]["desc"]
        assert desc == f"query-mem-gpa: argument 'gpa' is '{gpa}', not a hexadecimal address"


class TestProbing:
    async def test_types_are_listed_below_a_type_and_abstract_ones_on_demand(self) -> None:
        async with supervised() as here:
            answers = Answers(await here.client())
            names = [kind["name"] for kind in await answers.of("qom-list-types")]
            assert names == ["kvm-accel", "virtio-rng-device"]
            below = await answers.of("qom-list-types", implements="device", abstract=True)
            assert below == [
                {"name": "device", "parent": "object", "abstract": True},
                {"name": "virtio-rng-device", "parent": "device"},
            ]
            assert len(await answers.of("qom-list-types", implements="object")) == 2
            assert await answers.of("qom-list-types", implements="nothing") == []

    async def test_a_device_types_properties_are_listed_and_no_other_types(self) -> None:
        async with supervised() as here:
            client = await here.client()
            answers = Answers(client)
            assert await answers.of("device-list-properties", typename="virtio-rng-device") == [
                {"name": "rng", "type": "string", "description": "ID"}
            ]
            for name in ("kvm-accel", "virtio-rgn-device"):
                refused = await client.execute("device-list-properties", {"typename": name})
                assert refused["error"]["class"] == "DeviceNotFound"
                assert name in refused["error"]["desc"]

    async def test_options_are_listed_all_or_by_name(self) -> None:
        async with supervised() as here:
            client = await here.client()
            answers = Answers(client)
            names = [option["option"] for option in await answers.of("query-command-line-options")]
            assert names == ["name", "kernel"]
            [kernel] = await answers.of("query-command-line-options", option="kernel")
            assert kernel == {"option": "kernel", "parameters": []}
            refused = await client.execute("query-command-line-options", {"option": "kernal"})
            assert "no option 'kernal' (did you mean 'kernel'?)" in refused["error"]["desc"]

    async def test_the_balloon_tells_what_the_guest_said_if_it_did(self) -> None:
        async with supervised() as here:
            answers = Answers(await here.client())
            assert await answers.of("query-balloon") == {"actual": 2 << 30}
            here.control.balloon.statistics = GuestStatistics(1_700_000_000, {"free-memory": 1 << 20})
            assert await answers.of("query-balloon") == {
                "actual": 2 << 30,
                "stats": {"stat-free-memory": 1 << 20},
                "last-update": 1_700_000_000,
            }

    async def test_lines_of_the_human_monitor_are_passed_on(self) -> None:
        async with supervised() as here:
            answers = Answers(await here.client())
            line = {"command-line": "nonsense"}
            assert await answers.of("human-monitor-command", **line) == "unknown command: 'nonsense'\r\n"
