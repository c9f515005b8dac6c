"""Disk images of the host, each a :class:`Disk`.

Lives here: the contract (:mod:`contract`), raw images (:mod:`raw`) with direct I/O (:mod:`direct`), and the
locks that keep two machines from one image (:mod:`locks`), QEMU's machines included.
"""
