"""Warnings for who has no Kafka consumer: each as a signed POST."""
