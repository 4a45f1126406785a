"""Amazon DynamoDB for Machinery: result backend."""

from machinery_backend_dynamodb._backend import DynamodbBackend
from machinery_backend_dynamodb._options import DynamodbOptions

__all__ = ["DynamodbBackend", "DynamodbOptions"]
