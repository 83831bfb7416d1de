"""Order logs in, training rows out."""
