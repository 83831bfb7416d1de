"""Vectors in, CLV and decisions out: training, evaluation, the artifact. Files only."""
