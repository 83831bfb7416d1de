"""A topic as it is, read into the orders topic."""
