"""``eager://``: no queue and no worker; a task runs inside the call that sends it. For trying things out, and for tests."""

from machinery.eager._backend import EagerBackend
from machinery.eager._broker import EagerBroker

__all__ = ["EagerBackend", "EagerBroker"]
