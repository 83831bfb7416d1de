"""Files as shops export them: opened, understood, and read with a mapping."""
