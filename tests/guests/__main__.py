"""``python -m tests.guests [cloud|generic]`` prints the -kernel and -initrd options of the test guest."""

import sys

from tests.guests import cloud_kernel, generic_kernel, initramfs

flavour = sys.argv[1] if len(sys.argv) > 1 else "cloud"
kernel = {"cloud": cloud_kernel, "generic": generic_kernel}[flavour]()
print(f"-kernel {kernel} -initrd {initramfs(kernel)}")
