"""``machinery dynamodb create-tables``: makes the two tables, or says that they are there."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING

from machinery.abc import Config
from machinery_backend_dynamodb._client import Client
from machinery_backend_dynamodb._driver import make_client
from machinery_backend_dynamodb._options import DYNAMODB_SECTION, to_service
from machinery_backend_dynamodb._tables import create, tables_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from machinery_backend_dynamodb._options import Service

_PATIENCE = 300.0
"""Seconds in which AWS makes any table."""


def create_tables(arguments: Sequence[str]) -> int:
    """Make both tables, each unless it is there, wait until they are ready and let DynamoDB delete what is over.

    What the arguments leave out is as in the environment (``TASK_STATES_TABLE``, ``AWS_REGION``, …). Returns the exit status.
    Raises `ConfigError` for what is wrong with the URL or with a table that is there already, and `BackendUnavailable`.
    """
    parsed = _parser().parse_args(arguments)
    service = _to_service(parsed)
    capacity = (parsed.read_capacity, parsed.write_capacity) if parsed.billing == "provisioned" else None
    client = Client(
        partial(make_client, service),
        service.options,
        address=service.address,
        patience=service.read_timeout.total_seconds(),
    )
    try:
        for table in tables_of(service.options):
            for line in create(client, table, capacity, parsed.timeout):
                sys.stdout.write(f"{line}\n")
    finally:
        client.close()
    return 0


def _to_service(parsed: argparse.Namespace) -> Service:
    config = Config.from_env()
    named = {
        "task_states_table": parsed.task_states_table,
        "group_metas_table": parsed.group_metas_table,
        "region": parsed.region,
        "endpoint_url": parsed.endpoint_url,
    }
    section = {
        **config.sections.get(DYNAMODB_SECTION.name, {}),
        **{key: value for key, value in named.items() if value is not None},
    }
    return to_service(parsed.url, config.with_(sections={**config.sections, DYNAMODB_SECTION.name: section}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="machinery dynamodb create-tables",
        description="Make the tables of task states and of group metadata, each unless it is there already.",
    )
    parser.add_argument(
        "url",
        metavar="URL",
        nargs="?",
        default="dynamodb://",
        help="as for a server: dynamodb://eu-west-1, dynamodb://localhost:8000 (default: the environment's region)",
    )
    parser.add_argument("--task-states-table", metavar="NAME", help="default: TASK_STATES_TABLE, else task_states")
    parser.add_argument("--group-metas-table", metavar="NAME", help="default: GROUP_METAS_TABLE, else group_metas")
    parser.add_argument("--region", metavar="REGION", help="where the URL names none")
    parser.add_argument("--endpoint-url", metavar="URL", help="where to reach DynamoDB instead of AWS's own address")
    parser.add_argument(
        "--billing",
        choices=["pay-per-request", "provisioned"],
        default="pay-per-request",
        help="how new tables are paid for (default pay-per-request, that is, on demand)",
    )
    parser.add_argument("--read-capacity", metavar="N", type=_units, default=5, help="if provisioned (default 5)")
    parser.add_argument("--write-capacity", metavar="N", type=_units, default=5, help="if provisioned (default 5)")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=_PATIENCE,
        help=f"how long to wait for each table (default {_PATIENCE:g})",
    )
    return parser


def _units(said: str) -> int:
    units = int(said)
    if units < 1:
        raise argparse.ArgumentTypeError(f"{units} is less than 1")
    return units
