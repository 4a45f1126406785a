"""Google Cloud Pub/Sub for Machinery: broker. Planned: nothing here works yet."""
