"""Properties that hold for every input that hypothesis draws: the same inputs in each run, nothing kept in the repository."""

from __future__ import annotations

import tempfile

from hypothesis import HealthCheck, configuration, settings

configuration.set_hypothesis_home_dir(tempfile.gettempdir() + "/hypothesis")
PROFILE = "advkit"
settings.register_profile(
    PROFILE,
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile(PROFILE)
