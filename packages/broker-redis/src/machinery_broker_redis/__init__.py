"""Redis for Machinery: broker, result backend and lock."""

from machinery_broker_redis._backend import RedisBackend
from machinery_broker_redis._broker import RedisBroker
from machinery_broker_redis._lock import RedisLock
from machinery_broker_redis._options import RedisOptions

__all__ = ["RedisBackend", "RedisBroker", "RedisLock", "RedisOptions"]
