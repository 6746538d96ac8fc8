"""Warnings that point to the line of the user's program."""

from __future__ import annotations

import os
import sys
import warnings

_PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


def warn(message: str) -> None:
    """Warn of `message`, at the line outside of the package that led here."""
    # Counting frames by hand goes wrong as soon as one more function stands between. From Python 3.12 on there is
    # skip_file_prefixes.
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, RuntimeWarning, stacklevel=level)
