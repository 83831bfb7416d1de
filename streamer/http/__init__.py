"""What the worker answers over HTTP."""
