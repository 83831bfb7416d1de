"""What a running shop looks like to whoever asks beside the workers."""
