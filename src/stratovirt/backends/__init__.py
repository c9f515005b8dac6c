"""The host's side of devices: disk images, and whatever else a device needs of the host.

Nothing here knows of virtio, QMP or trio: a backend is opened from plain values, does its work on the
thread that calls it, and is closed by who opened it. Imports nothing of ours but ``errors``.
"""
