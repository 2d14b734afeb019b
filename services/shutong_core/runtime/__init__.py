"""I/O: Kafka, files, settings, logs, metrics, health."""
