"""A mapping proposed from a sample of a shop's own records."""
