"""The main job on sample orders, servers included."""
