"""Errors that name the file which they are about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stratovirt.errors import SnapshotCancelled, SnapshotError


@contextmanager
def blaming(path: str) -> Iterator[None]:
    """Whatever is refused in the ``with`` block is about ``path``.

    :raises SnapshotError: for each OSError, and each SnapshotError, whose text has no path yet.
    """
    try:
        yield
    except OSError as error:
        raise SnapshotError(f"{path}: {error.strerror}") from error
    except SnapshotCancelled:
        raise
    except SnapshotError as error:
        raise SnapshotError(f"{path}: {error}") from error
