"""Every limit of the clients, with its precedent."""

# Bytes of one message from the server. Precedents: libvirt's QEMU_MONITOR_MAX_RESPONSE and qemu.qmp's
# reading limit, both 10 MiB; QEMU's own schema is 200 KiB.
MAX_REPLY = 10 << 20

# Events that wait for a subscriber, unless it asks for another number. The server's queue has the same.
MAX_WAITING = 1024

# Descriptors in one message. Source: Linux, include/net/scm.h, SCM_MAX_FD.
MAX_FDS = 253

# Seconds for greeting and negotiation. A server that accepts but serves somebody else says nothing.
CONNECT_SECONDS = 10

# Seconds between attempts at a server that is starting. It takes some 300 ms, and nothing tells when.
RETRY_SECONDS = 0.02
