"""The KVM accelerator on the host's /dev/kvm; skipped, with the reason, where there is none."""
