"""One order event: read, checked, its money and its ids; or set aside with a reason. Pure."""
