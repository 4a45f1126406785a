"""For whoever writes a plug-in or tests an application: contract suites, fault injection, and a clock to turn by hand.

Nothing but the standard library is needed; the suites are plain classes whose ``test_…`` methods take fixtures by name, as pytest
gives them.
"""

from machinery.testing._backend import BackendContract, StorelessBackendContract
from machinery.testing._broker import BrokerContract
from machinery.testing._faults import Crash, FaultPlan, FaultyBackend, FaultyBroker, FaultyConsumer
from machinery.testing._lock import LockContract
from machinery.testing._manual_clock import ManualClock
from machinery.testing._workflow import WorkflowContract

__all__ = [
    "BackendContract",
    "BrokerContract",
    "Crash",
    "FaultPlan",
    "FaultyBackend",
    "FaultyBroker",
    "FaultyConsumer",
    "LockContract",
    "ManualClock",
    "StorelessBackendContract",
    "WorkflowContract",
]
