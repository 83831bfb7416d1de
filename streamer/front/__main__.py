"""What a worker starts; no command for people."""

from streamer.front.process import main

main()
