"""Where customers' states are kept: Redis, or memory."""
