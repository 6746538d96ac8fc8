"""Plots of flows. They need Matplotlib, which the extra ``plot`` installs: ``pip install "pushforward[plot]"``.

Data are blue and flows vermilion, from the palette of Okabe and Ito (2008), which people with any colour vision can
distinguish. They also differ in form: areas and dots for data, lines for flows. Every function returns a Figure,
which a notebook shows and ``savefig`` saves. pyplot and its current figure are not changed.
"""

from pushforward._fit.history import NEEDS_MATPLOTLIB

try:
    import matplotlib  # noqa: F401
except ImportError:
    raise ImportError(NEEDS_MATPLOTLIB) from None

from pushforward.plot._calibration import calibration
from pushforward.plot._corner import corner
from pushforward.plot._coverage import coverage
from pushforward.plot._density import density
from pushforward.plot._history import history
from pushforward.plot._images import images
from pushforward.plot._table import table_corner

__all__ = ["calibration", "corner", "coverage", "density", "history", "images", "table_corner"]
