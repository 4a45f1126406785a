"""boto3, as we set it up: clients of our own, and what is asked of those that an application made."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.config import Config as ClientConfig
from botocore.loaders import create_loader

from machinery.errors import ConfigError
from machinery_backend_dynamodb._errors import DRIVER_ERRORS, translate

if TYPE_CHECKING:
    from machinery_backend_dynamodb._options import Service


SINGLE = 50
"""Connections kept besides those for batches: threads that ask for a single record do so themselves."""


def configured_region() -> str:
    """The region that boto3 is configured with: ``AWS_DEFAULT_REGION``, or the profile's; empty: none. Raises `ConfigError`."""
    try:
        return boto3.session.Session().region_name or ""
    except DRIVER_ERRORS as error:
        raise translate(error, "AWS", ()) from None


def make_client(service: Service) -> Any:
    """A client of our own, in a session of its own, that repeats nothing by itself. Raises `ConfigError`."""
    options = service.options
    settings = ClientConfig(
        connect_timeout=service.connect_timeout.total_seconds(),
        read_timeout=service.read_timeout.total_seconds(),
        max_pool_connections=options.max_connections + SINGLE,
        retries={"total_max_attempts": 1, "mode": "standard"},
        user_agent_extra="machinery",
    )
    try:
        return _session().client(
            "dynamodb", region_name=options.region, endpoint_url=options.endpoint_url or None, config=settings
        )
    except (*DRIVER_ERRORS, ValueError) as error:
        raise translate(error, service.address, ()) from None


def _session() -> boto3.session.Session:
    """A session of its own. Botocore's descriptions of services, most of what a client costs, are read once for all."""
    session = botocore.session.Session()
    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    return boto3.session.Session(botocore_session=session)


_loader = lru_cache(create_loader)


def require_client(client: Any) -> Any:
    """``client``, if it is one of DynamoDB's. Raises `ConfigError`."""
    model = getattr(getattr(client, "meta", None), "service_model", None)
    if getattr(model, "service_name", "") != "dynamodb":
        raise ConfigError(
            f"{type(client).__name__} is no client of DynamoDB; pass what boto3.client('dynamodb') returns"
        )
    return client
