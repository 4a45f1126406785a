"""``null://``: the result backend of a server that wants no results."""

from machinery.null._backend import NullBackend

__all__ = ["NullBackend"]
