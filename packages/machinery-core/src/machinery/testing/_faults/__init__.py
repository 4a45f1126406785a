"""Faults on demand: services that fail, lose their answers, or take the whole process with them, at the call a test names."""

from machinery.testing._faults._backend import FaultyBackend
from machinery.testing._faults._broker import FaultyBroker
from machinery.testing._faults._consumer import FaultyConsumer
from machinery.testing._faults._plan import Crash, FaultPlan

__all__ = ["Crash", "FaultPlan", "FaultyBackend", "FaultyBroker", "FaultyConsumer"]
