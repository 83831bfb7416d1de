"""A shop's own records read as orders: a mapping says where each field comes from."""
