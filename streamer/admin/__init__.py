"""What operators run beside workers."""
