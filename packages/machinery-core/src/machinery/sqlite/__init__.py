"""``sqlite:///file.db``: broker, result backend and lock in one file, for all processes of one machine.

Durable and without a server. What a process was told is stored survives the death of every process; whether it also survives a
power cut is the option ``synchronous`` (see `SqliteOptions`). The three may share one file, also one that is the application's
own: every table begins with ``machinery_``.
"""

from machinery.sqlite._backend import SqliteBackend
from machinery.sqlite._broker import SqliteBroker
from machinery.sqlite._consumer import SqliteConsumer
from machinery.sqlite._lock import SqliteLock
from machinery.sqlite._options import SqliteOptions

__all__ = ["SqliteBackend", "SqliteBroker", "SqliteConsumer", "SqliteLock", "SqliteOptions"]
