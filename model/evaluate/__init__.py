"""How good predictions were on a holdout period."""
