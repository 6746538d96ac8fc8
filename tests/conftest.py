"""Hypothesis tries the same examples at every run of continuous integration, and new ones at a developer's."""

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
