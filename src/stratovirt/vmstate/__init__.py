"""State of a machine as plain values: who can be saved, and the file that holds it.

Lives here: the protocol of everything that saves itself, helpers for those that keep it in attributes, and
the codec of versioned sections. May not: know any device, guest memory or directory. Plain values are None,
bool, int, float, str, bytes, and lists and dicts (with str keys) of them. Imports ``errors`` only.
"""

from stratovirt.vmstate.codec import Section, decode, encode
from stratovirt.vmstate.saved import Saved, load_fields, load_section, save_fields, save_section

__all__ = [
    "Saved",
    "Section",
    "decode",
    "encode",
    "load_fields",
    "load_section",
    "save_fields",
    "save_section",
]
