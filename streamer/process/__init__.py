"""What every long-running command shares: how it starts, waits for servers, and ends."""
