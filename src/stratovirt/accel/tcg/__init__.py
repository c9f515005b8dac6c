"""The software CPU: QEMU's TCG by way of Unicorn 2.1.4, made fit for a full-system x86 guest.

The C glue of this folder includes knowledge of a GPL-2.0 library and is itself GPL-2.0 (docs/decisions);
it is loaded only when tcg is chosen.
"""
