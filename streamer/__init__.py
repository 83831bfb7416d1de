"""The shell around `features` and `model`: Kafka, Redis, the clock, configuration and commands."""
