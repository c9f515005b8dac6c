"""Command line tools that go with the VMM but are no part of it.

``stratovirt-qmp`` lives in ``qmp``: a shell, which stands on the blocking QMP client. ``stratovirt-guest``
lives here: it gets kernels and builds initramfs images and root disks. Its modules know the exception tree
of the package and nothing else of it; nothing in the VMM imports them. They use the standard library
(zstandard for modules that are packed so) and, for package archives, ``apt-get`` and ``dpkg-deb``; none
needs root. ``stratovirt-snapshot`` shows and verifies snapshots, which it reads by ``migration``.

=========== ==========================================================================
snapshot    the console script that shows what is in a snapshot
guest       the console script: arguments in, a path on stdout, one line per error
kernels     which kernel image to use, and where its modules are
kernelbuild the kernel compiled for the machine, from Debian's source
debian      packages: found in apt's lists, downloaded, unpacked
disk        a root disk: Debian packages in an ext4 image, and what makes a machine of them
initramfs   the root file system: busybox, modules, the files under ``rootfs/``
kmod        kernel modules: what each needs, in which order they load
elf         the few facts that kmod and initramfs need from an ELF file
cpio        the archive format
tour        what ``make run`` does: a shell on the terminal, or a tour without one
=========== ==========================================================================
"""
