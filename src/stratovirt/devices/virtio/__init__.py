"""Virtio devices on the virtio-mmio transport (virtio 1.2), modern interface only.

Lives here: the transport (:mod:`mmio`), split virtqueues (:mod:`queue`), what every device has
(:mod:`device`), and one module per device. The host's side of a device is in ``backends`` and ``chardev``.

Who touches what: a device's registers are touched on vCPU threads, its queues on the one thread that its
reactor calls it on. ``transport.lock`` is held while a unit of work is done there, so a driver that resets
the device waits for that unit and for nothing else; interrupt status has a lock of its own, so a driver
that acknowledges an interrupt never waits for a disk.
"""
