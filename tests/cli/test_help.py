"""Help says what the parser does: its text comes from the same table, and its examples parse."""

import os
import re
import subprocess
import sys

import pytest

from stratovirt.cli import Config, help_text, parse, refuse_not_built
from stratovirt.cli.help import EXAMPLES, WIDTH
from stratovirt.cli.notbuilt import NOT_BUILT
from stratovirt.cli.options import GROUPS, OPTIONS

EVERY_OPTION = [option for group in GROUPS for option in group.options]


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_every_name_is_in_the_help(name: str) -> None:
    assert f"-{name}" in help_text().replace(",", " ").split()


def test_every_option_says_what_it_is_for_or_that_it_does_nothing() -> None:
    unexplained = [option for option in EVERY_OPTION if not option.help]
    assert {option.field for option in unexplained} == {"ignored"}
    assert all(option.help in help_text() for option in EVERY_OPTION)


def test_no_name_stands_for_two_options() -> None:
    assert len(OPTIONS) == sum(len(option.names) for option in EVERY_OPTION)


def test_every_field_of_the_config_has_an_option() -> None:
    fields = {option.field for option in EVERY_OPTION if not option.early}
    assert fields - {"accel"} == set(Config._fields)  # -accel is a part of Config.machine


def test_lines_fit_a_terminal() -> None:
    assert max(map(len, help_text().splitlines())) <= WIDTH


def test_help_is_plain_ascii() -> None:
    assert help_text().isascii()


def pasted(example: str) -> list[str]:
    """The arguments that a shell makes of ``example``."""
    script = 'stratovirt() { printf "%s\\0" "$@"; }\n' + example
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split("\0")[:-1]


def test_a_reader_of_the_help_may_leave_before_its_end() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        command = [sys.executable, "-m", "stratovirt", "-h"]
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, check=False, timeout=60)

    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_can_be_pasted(example: str) -> None:
    config = parse(pasted(example))
    assert isinstance(config, Config)
    refuse_not_built(config)
    assert example in help_text()


def test_what_is_not_built_names_an_option() -> None:
    assert {capability.option for capability in NOT_BUILT} <= set(OPTIONS)


def test_what_is_not_built_is_said_so() -> None:
    remarks = " ".join(re.findall(r"\(not built yet: ([^)]*)\)", help_text()))
    for capability in NOT_BUILT:
        assert capability.part in remarks.replace(",", "").split() or not capability.part
    assert help_text().count("(not built yet)") == len([whole for whole in NOT_BUILT if not whole.part])
