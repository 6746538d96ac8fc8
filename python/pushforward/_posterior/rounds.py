"""What is known after each round of a sampler."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Round:
    """What is known after a round of new rows.

    Attributes
    ----------
    calls : int
        Rows of the likelihood evaluated so far.
    beta : float
        The inverse temperature: the power of the likelihood that the next flows are fitted to, 1 for the posterior.
    effective_size : float
        Effective number of rows at that temperature.
    acceptance : float
        Effective share of the rows that the last flows drew, at the temperature that they were fitted to; NaN in the
        first round.
    log_evidence : float
        The estimate so far, in nats.
    log_evidence_error : float
        Its standard error.
    seconds : float
        Time since the start.
    """

    calls: int
    beta: float
    effective_size: float
    acceptance: float
    log_evidence: float
    log_evidence_error: float
    seconds: float
