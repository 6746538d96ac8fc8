"""The exceptions that are pushforward's own; everything else is a ValueError or a TypeError."""


class TrainingDivergedError(RuntimeError):
    """A fit's loss kept becoming non-finite; the flow is left at its best state so far."""


class FileFormatError(ValueError):
    """A file is damaged, foreign, or of a newer format; nothing in it was executed."""
