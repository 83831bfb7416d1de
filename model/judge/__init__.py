"""A batch judged: its orders and silences in, scorings and warnings out. Pure."""
