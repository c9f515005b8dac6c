"""Modules that are loaded when they are first used, not when they are first named.

Importing trio takes 0.06 s and more of Python, none of which the guest's first instruction needs: it comes
while the guest already runs on another processor.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec
from typing import Any


def defer(name: str) -> None:
    """Let ``import name`` cost nothing until an attribute of the package is asked for (PEP 562).

    For one thread: two must not be the first at once. What is loaded already, or not to be found, is left to
    ``import``. (importlib's own LazyLoader loads at the second ``import``, which looks at ``__spec__``.)
    """
    spec = find_spec(name) if name not in sys.modules else None
    if spec is None or spec.loader is None:
        return
    module, loader = module_from_spec(spec), spec.loader

    def load(attribute: str) -> Any:
        del module.__dict__["__getattr__"]
        loader.exec_module(module)
        return getattr(module, attribute)

    module.__dict__["__getattr__"] = load
    sys.modules[name] = module
