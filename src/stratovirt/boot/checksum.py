"""The checksum that ACPI and the MultiProcessor Specification share."""


def checksum(data: bytes | bytearray) -> int:
    """The byte that makes all bytes of ``data`` add up to zero, its own place holding zero."""
    return -sum(data) & 0xFF
