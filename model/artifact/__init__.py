"""A model as files: written, checked, signed, kept in versions."""
