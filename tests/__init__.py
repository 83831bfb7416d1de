from __future__ import annotations

import os

from hypothesis import settings

# No deadline: a busy machine is not a fault. Derandomized: a red build is red for everyone, and
# `HYPOTHESIS_PROFILE=explore` looks for what nobody has seen yet. `make test-slow` tries `more`.
settings.register_profile("same", deadline=None, derandomize=True, database=None, max_examples=25)
settings.register_profile("more", settings.get_profile("same"), max_examples=75)
settings.register_profile("explore", deadline=None, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
