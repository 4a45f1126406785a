"""The broker keeps the contract on Google's own emulator, in a container.

This has not been run: where it was written there was no way to Google's registry. ``MACHINERY_REQUIRE=emulators`` asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.plugins.broker_gcp.test_contracts import OnMadeQueues
from tests.services.chain import is_required, obtained
from tests.services.pubsub import from_container

if not is_required("emulators"):
    pytest.skip(
        "needs Google's emulator in a container: MACHINERY_REQUIRE=emulators asks for it", allow_module_level=True
    )

pytestmark = pytest.mark.testcontainers


@pytest.fixture(scope="module")
def pubsub_host() -> Iterator[str]:
    with obtained("emulators", {"testcontainers": from_container}) as host:
        yield host


class TestPubsubBrokerOnGooglesEmulator(OnMadeQueues):
    pass
