"""A conformance suite for QMP servers: ``await check_qmp_server(connect)``.

Lives here: ``suite`` (which runs the checks and names what failed), the checks by theme (``greeting``,
``requests``, ``framing``, ``sessions``, ``descriptors``, ``throttling``, ``ending``), ``wire`` (a client that
holds every line against the envelope's rules) and ``dialect`` (where servers differ on purpose). The checks
know the protocol and nothing of this
project's server: they want a stream, and run against QEMU as they do against us. Precedent:
``trio.testing.check_two_way_stream``.
"""

from stratovirt.testing.conformance.dialect import QEMU, STRATOVIRT, Dialect, Throttle
from stratovirt.testing.conformance.suite import NotConforming, check_qmp_server

__all__ = ["QEMU", "STRATOVIRT", "Dialect", "NotConforming", "Throttle", "check_qmp_server"]
