"""The plugin and the conformance suite, used as their users do.

Boots are dear (three seconds each), so tests here share one guest where they can; whole pytest runs are
subprocesses, with an entry point that is written for them from pyproject.toml.
"""
