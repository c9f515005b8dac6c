"""QMP: the machine's management protocol, from bytes to machine control.

Lives here: ``protocol`` (the sans-io core), the schema registry and its validation, flow control, the
dispatcher, client sessions over any trio stream, and ``commands``, one small function per command.
Nothing here listens, and no task starts outside the session's own nursery: the nursery tree accepts
connections and calls :meth:`stratovirt.qmp.server.QmpServer.serve_client`. Imports ``machine`` only by
its control interface and domain events; ``protocol`` imports neither trio nor the machine. jsonschema
is loaded by the first command that has arguments, never before a greeting.
"""
