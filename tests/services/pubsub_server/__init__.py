"""A Pub/Sub for tests: what the documentation of Google Cloud Pub/Sub says that a queue needs, in one process, over gRPC.

`python -m tests.services.pubsub_server PORT [JOURNAL]` serves on 127.0.0.1. Topics, subscriptions, Publish, Pull, StreamingPull
with flow control, Acknowledge, ModifyAckDeadline, leases that run out, ordering keys, dead-letter and retry policies, delivery
exactly once, Seek to a time. With a journal it knows after a SIGKILL what it had promised before.

Where it differs: a lease on a stream may be as short as a second (there 10), an acknowledgement id whose lease has run out is
good for nothing (there it may be), and of an ordering key what was acknowledged is not delivered again with what was not.
"""
