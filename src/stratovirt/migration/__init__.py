"""The files of a snapshot: written so that a crash at any moment leaves the old one or the new one, and read.

A snapshot is a directory with two files. ``state`` has the sections of :mod:`stratovirt.vmstate`; one of
them, ``memory``, describes the other file: the image of guest RAM, sparse, fit to be mapped privately.

Lives here: how the directory is replaced (directory), the image and its checksums (image), both together
(writer, reader), whether the image is intact (verify), and how far a writer is (progress). May not: know
what a machine is made of, start threads, or import trio: all of it blocks, and is run in a thread by
``nursery``. Imports ``vmstate``, ``memory`` and ``native``.
"""
