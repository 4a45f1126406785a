"""Memcached for Machinery: result backend."""

from machinery_backend_memcache._backend import MemcacheBackend
from machinery_backend_memcache._options import MemcacheOptions

__all__ = ["MemcacheBackend", "MemcacheOptions"]
