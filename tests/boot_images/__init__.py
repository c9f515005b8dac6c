"""Loading a kernel and describing the machine: which files are taken, what lands where in guest memory."""
