"""Amazon SQS for Machinery: `SqsBroker`."""

from machinery_broker_sqs._broker import SqsBroker

__all__ = ["SqsBroker"]
