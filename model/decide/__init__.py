"""A scored customer in, a decision out: pure."""
