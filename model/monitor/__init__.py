"""Whether a model still fits what it sees."""
