"""What every lock must do, one theme a file."""

from machinery.testing._lock._acquiring import Acquiring
from machinery.testing._lock._blocks import Blocks
from machinery.testing._lock._fences import Fences
from machinery.testing._lock._holding import Holding
from machinery.testing._lock._lifecycle import Lifecycle
from machinery.testing._lock._refusals import Refusals
from machinery.testing._lock._renewing import Renewing
from machinery.testing._lock._skew import Skew

__all__ = ["LockContract"]


class LockContract(Holding, Fences, Renewing, Blocks, Refusals, Acquiring, Skew, Lifecycle):
    """The contract of `machinery.abc.Lock` as tests.

    A plug-in's test is a subclass with three fixtures: ``lock``; ``make_lock``, a function that makes further locks on the same
    store; and ``skewed_lock``, a function that takes a `timedelta` and makes a lock on the same store whose own clock is ahead of
    the service's by that much (behind, where negative). All are closed at the end. Where nothing but the service's clock exists,
    ``skewed_lock`` skips with that as the reason. A test that a service cannot pass is marked xfail with the reason, never
    rewritten.
    """
