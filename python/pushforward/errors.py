"""The exceptions that are pushforward's own; everything else is a ValueError or a TypeError."""


class TrainingDivergedError(RuntimeError):
    """A fit's loss kept becoming non-finite; the flow is left at its best state so far."""
