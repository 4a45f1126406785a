"""Google Cloud Pub/Sub for Machinery: broker."""

from machinery_broker_gcp._broker import PubsubBroker
from machinery_broker_gcp._options import PubsubOptions

__all__ = ["PubsubBroker", "PubsubOptions"]
