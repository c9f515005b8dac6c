"""Network backends: a tap of the host's, or user networking without privilege.

Each carries Ethernet frames behind a virtio-net header of 12 bytes, as the protocols ``NetBackend`` and
``Port`` of :mod:`stratovirt.devices.virtio.net` say.
"""
