"""The text of ``stratovirt -h``, made from the table that the parser uses."""

import textwrap
from collections.abc import Iterable

from stratovirt.cli.notbuilt import NOT_BUILT
from stratovirt.cli.options import GROUPS, Group, Option, Takes

WIDTH = 100  # of a line; two terminals fit side by side on a laptop
INDENT = " " * 6

_START = """\
stratovirt: boot a Linux kernel in a virtual machine, and manage it over QMP

  stratovirt -kernel FILE [options]

Try it:
  # this host's own kernel, on this terminal; Ctrl-a x quits
  {0}

  # two vCPUs on the software CPU, and a management socket
  {1}

  # in the background, the guest's console in a file
  {2}

To start many of them fast, from a process that has everything loaded (docs/zygote.md):
  stratovirt --zygote /tmp/zygote &
  stratovirt --via /tmp/zygote -kernel FILE [options]

Talk to it from another terminal:
  echo '{{"execute":"query-status"}}' | ncat -U /tmp/vm.qmp

An option's value runs to the next option. In key=value lists ',,' stands for a comma.
"""

EXAMPLES = (
    'stratovirt -kernel "/boot/vmlinuz-$(uname -r)" -initrd "/boot/initrd.img-$(uname -r)"',
    'stratovirt -machine microvm,accel=tcg -smp 2 -m 512 -kernel "/boot/vmlinuz-$(uname -r)" \\\n'
    "    -append console=ttyS0 panic=-1 -serial stdio -qmp unix:/tmp/vm.qmp,server,nowait",
    'stratovirt -kernel "/boot/vmlinuz-$(uname -r)" -append console=ttyS0 -daemonize \\\n'
    "    -serial file,path=/tmp/vm.log -qmp unix:/tmp/vm.qmp,server,nowait -pidfile /tmp/vm.pid",
)
"""Command lines for a shell, fit to be pasted."""


def help_text() -> str:
    """What ``-h`` prints, with a newline at its end."""
    groups = (_group(group) for group in GROUPS)
    return "\n".join((_START.format(*EXAMPLES), *groups))


def _group(group: Group) -> str:
    explained = [line for option in group.options if option.help for line in _option(option)]
    others = _wrapped(f"-{option.names[0]} " for option in group.options if not option.help)
    return "\n".join((f"{group.title}:", *explained, *others)) + "\n"


def _option(option: Option) -> list[str]:
    """The lines of one option: its forms, then what it is for."""
    names = ", ".join(f"-{name}" for name in option.names)
    missing = [capability.part for capability in NOT_BUILT if capability.option in option.names]
    if "" in missing:
        return [f"  {names}", f"      {option.help} (not built yet)"]
    lines = [line for form in _forms(option) for line in _wrapped([f"{names} ", *_pieces(form)])]
    remark = f" (not built yet: {', '.join(missing)})" if missing else ""
    return [
        *lines,
        *_wrapped_text(option.help + remark),
    ]


def _wrapped_text(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False)


def _forms(option: Option) -> list[str]:
    if option.value is None:
        return [""]
    forms = option.value.form.splitlines()
    return [f"[{form}]" for form in forms] if option.takes is Takes.PERHAPS_ONE else forms


def _pieces(form: str) -> list[str]:
    """A form cut where a line may end: in front of what is optional."""
    return form.replace("[,", "\n[,").splitlines()


def _wrapped(pieces: Iterable[str]) -> list[str]:
    lines: list[str] = []
    for piece in pieces:
        if not lines:
            lines.append(f"  {piece}")
        elif len(lines[-1]) + len(piece) > WIDTH:
            lines.append(f"    {piece}")
        else:
            lines[-1] += piece
    return [line.rstrip() for line in lines]
