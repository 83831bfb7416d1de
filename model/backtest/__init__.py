"""How good the warnings would have been."""
