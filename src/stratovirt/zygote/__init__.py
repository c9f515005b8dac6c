"""Machines that start from a process which has everything loaded already: docs/zygote.md.

``server`` is that process, ``client`` the command that asks it, ``request`` what one tells the other. The
client has to start faster than what it replaces, so ``client`` and ``request`` import nothing else of ours;
``server`` may know all. No trio here: a process whose loop has run cannot be forked.
"""
