"""The web server under the pages: who gets a connection, how much is read, what is refused."""
