"""Orders in, customer state and feature vectors out. Pure: no I/O, no clock, no framework."""
