"""What every broker must do, one theme a file."""

from machinery.testing._broker._concurrency import Concurrency
from machinery.testing._broker._dead_letters import DeadLetters
from machinery.testing._broker._delays import Delays
from machinery.testing._broker._delivery import DeliveryOfMessages
from machinery.testing._broker._inspection import Inspection
from machinery.testing._broker._leases import Leases
from machinery.testing._broker._lifecycle import Lifecycle
from machinery.testing._broker._settling import Settling

__all__ = ["BrokerContract"]


class BrokerContract(
    DeliveryOfMessages, Settling, Delays, Inspection, DeadLetters, Leases, Concurrency, Lifecycle
):  # fmt: skip
    """The contract of `machinery.abc.Broker` and `machinery.abc.Consumer` as tests.

    A plug-in's test is a subclass with two fixtures: ``broker``, a broker on an empty store, and ``make_broker``, a function
    that makes further brokers on the same store, all closed at the end. Where messages are on lease, let it be short (a second).
    A test that does not apply by the broker's own capabilities is skipped; one that a service cannot pass is marked xfail with
    the reason, never rewritten.
    """
