"""boto3, as we set it up: clients of our own, and what is asked of those that an application made."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config as ClientConfig
from botocore.loaders import create_loader
from botocore.session import get_session

from machinery.errors import ConfigError
from machinery_broker_sqs._errors import DRIVER_ERRORS, translate

if TYPE_CHECKING:
    from machinery_broker_sqs._options import Service

LONGEST_POLL = 20
"""Seconds that SQS lets a receive wait."""
SINGLE = 50
"""Connections kept besides those for batches: threads that send a single message do so themselves."""


def configured_region() -> str:
    """The region that boto3 is configured with: ``AWS_DEFAULT_REGION``, or the profile's; empty: none. Raises `ConfigError`."""
    try:
        return boto3.session.Session().region_name or ""
    except DRIVER_ERRORS as error:
        raise translate(error, "AWS") from None


@functools.cache
def _descriptions() -> Any:
    """What botocore reads of its services' descriptions, which takes a tenth of a second, and once will do."""
    return create_loader()


def _session() -> Any:
    """A session of our own: an application may change the default one."""
    inner = get_session()
    inner.register_component("data_loader", _descriptions())
    return boto3.session.Session(botocore_session=inner)


def make_clients(service: Service) -> tuple[Any, Any]:
    """Two clients of our own that repeat nothing by themselves: for calls, and for receives. Raises `ConfigError`."""
    options = service.options
    answer = service.read_timeout.total_seconds()
    poll = min(LONGEST_POLL, options.receive_wait_time_seconds.total_seconds())
    try:
        session = _session()
        call, receive = (
            session.client(
                "sqs",
                region_name=options.region,
                endpoint_url=options.endpoint_url or None,
                config=ClientConfig(
                    connect_timeout=service.connect_timeout.total_seconds(),
                    read_timeout=answer + waits,
                    max_pool_connections=options.max_connections + SINGLE,
                    retries={"total_max_attempts": 1, "mode": "standard"},
                    parameter_validation=False,  # a tenth of the time that a call takes; what we pass is our own
                    user_agent_extra="machinery",
                ),
            )
            for waits in (0.0, poll)
        )
    except (*DRIVER_ERRORS, ValueError) as error:
        raise translate(error, service.address) from None
    return call, receive


def require_client(client: Any) -> Any:
    """``client``, if it is one of SQS's. Raises `ConfigError`."""
    model = getattr(getattr(client, "meta", None), "service_model", None)
    if getattr(model, "service_name", "") != "sqs":
        raise ConfigError(f"{type(client).__name__} is no client of SQS; pass what boto3.client('sqs') returns")
    return client
