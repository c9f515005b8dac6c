"""The software CPU: QEMU's TCG by way of Unicorn 2.1.4, made fit for a full-system x86 guest.

Lives here: the accelerator, its interrupt controllers (:mod:`.irqchip`), and the C in glue/ that takes over
where the library's own answers are not those of a whole machine. The C includes knowledge of a GPL-2.0
library and is itself GPL-2.0 (docs/decisions). Imports ``memory``, ``errors`` and ``accel.protocol`` only;
loaded only when tcg is chosen. Devices, trio and threads are not for here: the one thread that runs guest
code is the machine's.
"""
