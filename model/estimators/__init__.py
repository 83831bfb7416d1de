"""What is fitted: every kind of model, and what kinds are made of."""
