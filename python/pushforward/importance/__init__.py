"""Importance sampling: averages, evidences and integrals from a flow's draws, each with its error."""

from __future__ import annotations

from pushforward.importance.draws import Draws
from pushforward.importance.harmonic import Evidence, log_evidence_from_draws
from pushforward.importance.integral import Integral, integrate
from pushforward.importance.sampling import sample

__all__ = ["Draws", "Evidence", "Integral", "integrate", "log_evidence_from_draws", "sample"]
