"""Modules that are loaded when they are first used, not when they are first named.

Importing trio takes 0.06 s and more of Python, none of which the guest's first instruction needs: it comes
while the guest already runs on another processor. So do the modules that only some configurations use.
"""

from __future__ import annotations

import sys
import threading
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

UNUSED_BY_A_BOOT = ("trio", "outcome", "subprocess", "shutil", "tempfile", "json", "hashlib")
"""What the modules of a machine name, and no guest's first instruction uses."""


def defer(*names: str) -> None:
    """Let ``import name`` cost nothing until an attribute of the module is asked for (PEP 562).

    What is loaded already, or not to be found, is left to ``import``. (importlib's own LazyLoader loads at
    the second ``import``, which looks at ``__spec__``.)
    """
    for name in names:
        if name not in sys.modules:
            _defer(name)


def _defer(name: str) -> None:
    spec = find_spec(name)
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    lock = threading.RLock()  # another thread that asks waits; the module's own code, loading, does not
    begun = False

    def load(attribute: str) -> Any:
        nonlocal begun
        with lock:
            if not begun:
                begun = True
                _execute(module)
            elif module.__dict__.get("__getattr__") is load:  # its own code asks, before it is defined
                raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
        return getattr(module, attribute)

    module.__dict__["__getattr__"] = load
    sys.modules[name] = module


def _execute(module: ModuleType) -> None:
    """Run the module's code, which may define a ``__getattr__`` of its own."""
    ours = module.__dict__["__getattr__"]
    assert module.__spec__ is not None
    assert module.__spec__.loader is not None
    module.__spec__.loader.exec_module(module)
    if module.__dict__["__getattr__"] is ours:
        del module.__dict__["__getattr__"]
