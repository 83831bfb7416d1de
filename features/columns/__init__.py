"""What models see of a customer, as of an instant: one column a feature. Pure."""
