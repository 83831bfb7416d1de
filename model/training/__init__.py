"""A log in, a chosen model out."""
