"""The human monitor: what a person types is carried out by the QMP commands.

Lives here: ``words`` (how the rest of a line becomes arguments), ``render`` (how a result becomes text),
``table`` (the commands there are, the only place that says so), ``interpreter`` (a line in, text out),
``editor`` (keys in, lines and echo out) and ``session``, which carries both over a stream. All but the
last do no I/O. Nothing here changes the machine: every line goes through QMP's dispatcher, so that its
arguments are checked, its turn taken and its errors worded there; ``info network`` alone, for which QMP has
no query, is handed facts of ``machine``'s inventory. Imports ``qmp``'s dispatcher and registry, and those
facts; nothing listens and no task starts here. The language is that of QEMU's monitor
(hmp-commands.hx), output included, because people and scripts know it.
"""
