"""`python -m streamer`."""

from streamer.commands.cli import cli

if __name__ == "__main__":
    cli(prog_name="python -m streamer")
