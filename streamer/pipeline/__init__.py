"""Records in, states, scores and warnings out."""
