"""Devices: what the guest finds at its ports and addresses.

A device is registers plus the state behind them. Registers are touched on vCPU threads, input arrives
from others, so a device with both keeps one lock. Devices import ``memory`` and the interrupt line's
protocol; they know nothing of QMP, of trio or of who carries their bytes.
"""
