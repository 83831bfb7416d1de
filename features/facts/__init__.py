"""What is known of a customer: a commutative fold over order events. Pure."""
