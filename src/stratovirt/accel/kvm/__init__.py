"""vCPUs on the host's /dev/kvm, with the in-kernel interrupt controllers."""
