"""The result backend of ``eager://``."""

from machinery.memory import MemoryBackend


class EagerBackend(MemoryBackend):
    """Records inside this process, as `MemoryBackend` keeps them."""
