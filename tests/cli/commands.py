"""Shorthands for command lines."""

import shlex

from stratovirt.cli import Config, parse


def config(text: str = "") -> Config:
    """What ``text``, written as for a shell, asks for, with a kernel."""
    parsed = parse(["-kernel", "vmlinux", *shlex.split(text)])
    assert isinstance(parsed, Config)
    return parsed
