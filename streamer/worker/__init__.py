"""The worker's process: partitions, models, health."""
