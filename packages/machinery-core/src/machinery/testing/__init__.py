"""For whoever writes a plug-in or tests an application: contract suites, fault injection, and a clock to turn by hand.

Nothing but the standard library is needed; the suites are plain classes whose ``test_…`` methods take fixtures by name, as pytest
gives them.
"""

from machinery.testing._broker import BrokerContract

__all__ = ["BrokerContract"]
