"""What is typed: a command a file."""
