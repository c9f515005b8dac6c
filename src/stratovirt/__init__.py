"""StratoVirt: a virtual machine monitor in Python.

The package is laid out as its architecture (docs/architecture.md). Imports point downward only:
``cli`` and ``nursery`` may know everything; ``machine`` knows ``accel``, ``devices``, ``boot`` and
``memory``; ``devices`` know neither QMP nor the task tree; ``qmp.protocol`` imports neither trio nor
the machine. tests/style keeps those directions.
"""

__version__ = "0.1.0"
