"""A line means what it means in QEMU's monitor, and is done by the QMP command of that meaning."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratovirt.hmp.table import COMMANDS, TOPICS
from stratovirt.machine.control import RunState
from stratovirt.machine.inventory import NetworkInfo
from tests.hmp.fakes import VERSION, Script, real, text

MIB = 1 << 20


async def test_a_session_of_lines_has_the_answers_that_qemu_gives() -> None:
    interpreter, _ = real()
    for line, answer in [
        ("info status", "VM status: running\n"),
        ("stop", ""),
        ("info status", "VM status: paused\n"),
        ("c", ""),
        ("info status", "VM status: running\n"),
        ("s", ""),
        ("cont", ""),
        ("system_reset", ""),
        ("system_powerdown", ""),
        ("info version", f"{VERSION}\n"),
        ("", ""),
        (" \t ", ""),
        ("  info   status  ", "VM status: running\n"),
        ("frob it", "unknown command: 'frob'\n"),
        ("inf status", "unknown command: 'inf'\n"),
        ("info frob", "unknown command: 'info frob'\n"),
        ("help frob", "unknown command: 'frob'\n"),
        ("help info frob", "unknown command: 'info frob'\n"),
        ("help stop", "stop|s  -- stop emulation\n"),
        ("? s", "stop|s  -- stop emulation\n"),
        ("help info status", "info status  -- show the current VM status (running|paused)\n"),
        (
            "stop now",
            'stop: extraneous characters at the end of line\nTry "help stop" for more information\n',
        ),
        (
            "info status x",
            "info status: extraneous characters at the end of line\n"
            'Try "help info status" for more information\n',
        ),
    ]:
        assert await text(interpreter, line) == answer, line


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("cont", "cont: the machine is in state running"),
        ("device_add", "device_add: argument 'id' is missing"),
        ("device_add a,id=b,drvie=c", "device_add: unknown argument 'drvie' (did you mean 'drive'?)"),
        ("balloon -1", "balloon: argument 'value' is -1048576, less than the minimum of 0"),
    ],
)
async def test_a_refusal_is_a_line_with_the_words_of_qmp(line: str, error: str) -> None:
    assert await text(real()[0], line) == f"Error: {error}\n"


@pytest.mark.parametrize("state", [state for state in RunState if state is not RunState.RUNNING])
async def test_info_status_names_why_the_machine_does_not_run(state: RunState) -> None:
    interpreter, control = real()
    control.state = state
    why = "" if state is RunState.PAUSED else f" ({state.value})"
    assert await text(interpreter, "info status") == f"VM status: paused{why}\n"


@pytest.mark.parametrize("line", ["quit", "q"])
async def test_quit_takes_effect_only_when_its_answer_is_on_the_way(line: str) -> None:
    interpreter, control = real()
    answer = await interpreter.run(line)
    assert answer.text == ""
    assert not control.quit_asked.is_set()
    assert answer.then is not None
    answer.then()
    assert control.quit_asked.is_set()


@pytest.mark.parametrize(
    ("line", "command", "arguments"),
    [
        ("device_del disk", "device_del", {"id": "disk"}),
        ("balloon 100", "balloon", {"value": 100 * MIB}),
        ("balloon 0x40", "balloon", {"value": 64 * MIB}),
        ("balloon -1", "balloon", {"value": -MIB}),
        ("balloon 007", "balloon", {"value": 7 * MIB}),
        ("device_add", "device_add", {}),
        ("device_add virtio-blk-device", "device_add", {"driver": "virtio-blk-device"}),
        ("device_add driver=a,id=b", "device_add", {"driver": "a", "id": "b"}),
        ("device_add a,id=x=y,addr=0x1", "device_add", {"driver": "a", "id": "x=y", "addr": "0x1"}),
        (
            "device_add a,queue-size=256,share-rw=on",
            "device_add",
            {"driver": "a", "queue-size": "256", "share-rw": "on"},
        ),
        ("device_add a,id=b,,c,,,addr=1", "device_add", {"driver": "a", "id": "b,c,", "addr": "1"}),
        ("netdev_add tap,id=n,ifname=t0", "netdev_add", {"type": "tap", "id": "n", "ifname": "t0"}),
        ("netdev_del n", "netdev_del", {"id": "n"}),
        ("device_add a,id=two words", "device_add", {"driver": "a", "id": "two words"}),
    ],
)
async def test_the_rest_of_a_line_becomes_arguments(
    line: str, command: str, arguments: dict[str, object]
) -> None:
    script = Script({command: {}})
    assert await text(script.interpreter, line) == ""
    assert script.asked == [(command, arguments)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("device_del", "device_del: string expected"),
        ("device_del a b", "device_del: extraneous characters at the end of line"),
        ("balloon", "balloon: a number of MiB expected"),
        ("balloon 1G", "balloon: a number of MiB expected"),
        ("balloon 1_0", "balloon: a number of MiB expected"),
        ("balloon ١", "balloon: a number of MiB expected"),
        ("balloon 99999999999999", "balloon: integer is too large"),
        ("device_add a,id", "device_add: prop=value expected, not 'id'"),
    ],
)
async def test_a_line_that_is_not_of_its_commands_form_is_not_sent(line: str, problem: str) -> None:
    script = Script({"device_add": {}, "device_del": {}, "balloon": {}})
    name = line.split()[0]
    assert await text(script.interpreter, line) == f'{problem}\nTry "help {name}" for more information\n'
    assert script.asked == []


@pytest.mark.parametrize(
    ("topic", "query", "result", "shown"),
    [
        (
            "cpus",
            "query-cpus-fast",
            [{"cpu-index": 0, "thread-id": 70}, {"cpu-index": 1, "thread-id": 71}],
            "* CPU #0: thread_id=70\n  CPU #1: thread_id=71\n",
        ),
        (
            "chardev",
            "query-chardev",
            [{"label": "serial0", "filename": "stdio", "frontend-open": True}],
            "serial0: filename=stdio\n",
        ),
        ("balloon", "query-balloon", {"actual": 256 * MIB}, "balloon: actual=256\n"),
        ("name", "query-name", {"name": "web"}, "web\n"),
        ("name", "query-name", {}, ""),
        ("uuid", "query-uuid", {"UUID": "0" * 8}, "00000000\n"),
        ("kvm", "query-kvm", {"enabled": True, "present": True}, "kvm support: enabled\n"),
        ("kvm", "query-kvm", {"enabled": False, "present": True}, "kvm support: disabled\n"),
        ("kvm", "query-kvm", {"enabled": False, "present": False}, "kvm support: not compiled\n"),
        ("block", "query-block", [], ""),
        (
            "block",
            "query-block",
            [
                {
                    "device": "d",
                    "qdev": "disk",
                    "inserted": {
                        "file": "/tmp/x",
                        "node-name": "#block174",
                        "drv": "raw",
                        "ro": False,
                        "cache": {"writeback": True, "direct": False, "no-flush": False},
                    },
                },
                {"device": "", "qdev": "slot1", "inserted": None},
            ],
            "d (#block174): /tmp/x (raw)\n"
            "    Attached to:      disk\n"
            "    Cache mode:       writeback\n"
            "slot1: [not inserted]\n"
            "    Attached to:      slot1\n",
        ),
    ],
)
async def test_a_result_is_shown_as_qemu_shows_it(topic: str, query: str, result: object, shown: str) -> None:
    script = Script({query: result})
    assert await text(script.interpreter, f"info {topic}") == shown
    assert script.asked == [(query, {})]


async def test_networks_are_shown_as_qemu_shows_them() -> None:
    networks = [
        NetworkInfo("net0", "type=tap,ifname=tap0,queues=1", "eth", bytes.fromhex("525400123456")),
        NetworkInfo("dead", "type=user,passt=69", "eth1", bytes.fromhex("525400123457"), link_up=False),
        NetworkInfo("spare", "type=user,passt=70"),
    ]
    assert await text(Script({}, networks).interpreter, "info network") == (
        "eth: index=0,type=nic,model=virtio-net-device,macaddr=52:54:00:12:34:56,link=up\n"
        " \\ net0: index=0,type=tap,ifname=tap0,queues=1\n"
        "eth1: index=0,type=nic,model=virtio-net-device,macaddr=52:54:00:12:34:57,link=down\n"
        " \\ dead: index=0,type=user,passt=69\n"
        "spare: index=0,type=user,passt=70\n"
    )


async def test_a_command_that_the_server_does_not_have_is_unknown_everywhere() -> None:
    interpreter = Script({"stop": {}, "query-status": {}}).interpreter
    assert await text(interpreter, "device_add a") == "unknown command: 'device_add'\n"
    assert await text(interpreter, "info block") == "unknown command: 'info block'\n"
    assert "device_add" not in await text(interpreter, "help")
    assert "block" not in await text(interpreter, "info")
    assert interpreter.complete("de") == []


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("st", ["stop"]),
        ("system_", ["system_powerdown", "system_reset"]),
        ("info st", ["status"]),
        ("help st", ["stop"]),
        ("help info ver", ["version"]),
        ("stop ", []),
        ("info status ", []),
        ("frob", []),
    ],
)
def test_words_are_completed_where_commands_and_topics_may_stand(typed: str, words: list[str]) -> None:
    assert real()[0].complete(typed) == words


async def test_what_a_terminal_would_obey_is_not_shown_to_it() -> None:
    script = Script({"query-name": {"name": "\x1b[2Jweb\x00\r\udcff\u202e"}})
    answer = (await script.interpreter.run("info name")).text
    assert answer == "�[2Jweb����\r\n"


EXAMPLES = {
    "balloon": "balloon 128",
    "device_add": "device_add virtio-blk-device,id=x",
    "device_del": "device_del x",
    "netdev_add": "netdev_add user,id=n",
    "netdev_del": "netdev_del n",
}


async def test_every_command_that_help_lists_works() -> None:
    interpreter, control = real()
    usages = (await text(interpreter, "help") + await text(interpreter, "info")).splitlines()
    assert len(usages) == len(COMMANDS) + len(TOPICS), "each of them has its QMP command"
    for usage in usages:
        words = usage.split()[: 2 if usage.startswith("info ") and "[" not in usage else 1]
        name = " ".join(words).split("|")[0]
        control.state = RunState.PAUSED if name == "cont" else RunState.RUNNING
        answer = await text(interpreter, EXAMPLES.get(name, name))
        assert "unknown command" not in answer, usage
        assert not answer.startswith("Error:"), usage
        assert await text(interpreter, f"help {name}"), usage


LINES = st.one_of(
    st.text(),
    st.builds(
        " ".join,
        st.lists(
            st.one_of(
                st.sampled_from(sorted({name for command in (*COMMANDS, *TOPICS) for name in command.names})),
                st.sampled_from(["driver=x,id=y", "a,,b,=,c=d,", "0x", "-1", "9" * 4000, "info"]),
                st.text(max_size=8),
            ),
            max_size=4,
        ),
    ),
)


@given(LINES)
async def test_any_line_has_an_answer_and_nothing_is_raised(line: str) -> None:
    interpreter, _ = real()
    answer = await text(interpreter, line)
    assert all(char.isprintable() or char == "\n" for char in answer)
    assert isinstance(interpreter.complete(line), list)


async def test_the_manual_lists_what_help_prints() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "monitor.md").read_text()
    interpreter, _ = real()
    for line in ("help", "info"):
        assert f"```\n{await text(interpreter, line)}```\n" in manual
