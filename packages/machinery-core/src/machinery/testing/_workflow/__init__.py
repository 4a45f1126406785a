"""What must work with every broker and every result backend, worker included, one theme a file."""

from machinery.testing._workflow._chains import Chains
from machinery.testing._workflow._chords import Chords
from machinery.testing._workflow._failing_chords import FailingChords
from machinery.testing._workflow._groups import Groups
from machinery.testing._workflow._periodic import Periodic
from machinery.testing._workflow._queues import Queues
from machinery.testing._workflow._tasks import Tasks

__all__ = ["WorkflowContract"]


class WorkflowContract(Tasks, Queues, Chains, Groups, Chords, FailingChords, Periodic):
    """Tasks, retries, callbacks, chains, groups, chords and their periodic forms as tests of a server.

    A plug-in's test is a subclass with the fixture ``server``: a `Server` on empty stores, with a default queue of its own,
    closed at the end. Workers run in threads of the test. A test that does not apply by the capabilities of broker and backend
    is skipped; one that a service cannot pass is marked xfail with the reason, never rewritten.
    """
