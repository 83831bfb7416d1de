"""What is kept beside the customers' states for whoever looks: open warnings, and counts."""
