"""What every result backend must do, one theme a file."""

from machinery.testing._backend._expiry import Expiry
from machinery.testing._backend._groups import Groups
from machinery.testing._backend._lifecycle import Lifecycle
from machinery.testing._backend._records import Records
from machinery.testing._backend._storeless import StorelessBackendContract
from machinery.testing._backend._waiting import Waiting

__all__ = ["BackendContract", "StorelessBackendContract"]


class BackendContract(Records, Waiting, Groups, Expiry, Lifecycle):
    """The contract of `machinery.abc.Backend` as tests, for a backend that stores.

    A plug-in's test is a subclass with two fixtures: ``backend``, a backend on an empty store, and ``make_backend``, a function
    that takes fields of `Config` and makes further backends on the same store, all closed at the end. A test that does not
    apply by the backend's own capabilities is skipped; one that a service cannot pass is marked xfail with the reason, never
    rewritten.
    """
