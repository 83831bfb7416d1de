"""Order files read: strictly, every row accounted for."""
