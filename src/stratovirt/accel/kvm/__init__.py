"""vCPUs on the host's /dev/kvm, with the in-kernel interrupt controllers and timer.

Lives here: everything that knows KVM's ioctls. What may not: device models, threads (the bodies of the
vCPU threads are here, who starts them is not), anything of the software CPU. Inside, imports go from
``accelerator`` (the whole) through ``thread``, ``vcpu``, ``vm`` and ``guest_time`` (its parts) down to
``system`` (/dev/kvm) and ``ioctl``; ``cpuid`` is pure. Outside, only ``accel.choose`` imports this, when
KVM was chosen.

Source for all of it: Linux Documentation/virt/kvm/api.rst.
"""
