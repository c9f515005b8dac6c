"""Numbers that all virtio devices share. Source: virtio 1.2 §2.1, §4.2.2, §5 and §6."""

# Feature bits (§6).
RING_INDIRECT_DESC = 1 << 28
RING_EVENT_IDX = 1 << 29
VERSION_1 = 1 << 32

# Device status (§2.1).
ACKNOWLEDGE = 1
DRIVER = 2
DRIVER_OK = 4
FEATURES_OK = 8
NEEDS_RESET = 64
FAILED = 128

# Interrupt status (§4.2.2): why the line is high.
USED_BUFFER = 1
CONFIG_CHANGE = 2

# Device ids (§5).
ID_NET = 1
ID_BLOCK = 2
ID_CONSOLE = 3
ID_ENTROPY = 4
ID_BALLOON = 5
ID_VSOCK = 19
ID_FILE_SYSTEM = 26
