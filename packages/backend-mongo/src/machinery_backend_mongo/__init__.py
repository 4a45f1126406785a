"""MongoDB for Machinery: result backend."""

from machinery_backend_mongo._backend import MongoBackend
from machinery_backend_mongo._options import MongoOptions

__all__ = ["MongoBackend", "MongoOptions"]
