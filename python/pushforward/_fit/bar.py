"""The progress bar of a fit, or of another long call."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

Show = Callable[[float, str], None]
"""Takes the share that is done, and what to say beside the bar."""


def in_view() -> bool:
    """Whether somebody looks at standard error: a terminal, or a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell" or bool(sys.stderr and sys.stderr.isatty())


@contextlib.contextmanager
def bar(done: float, name: str = "fit") -> Iterator[Show]:
    """Show a bar on standard error, with the time that has gone and the time that is left; yields what moves it."""
    from tqdm.auto import tqdm  # 15 ms to import

    layout = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}{postfix}]"
    # A step may take microseconds or minutes: the clock alone decides when to draw again, every 0.1 s.
    with tqdm(total=1.0, initial=done, desc=name, bar_format=layout, miniters=0, smoothing=0) as drawn:

        def show(done: float, text: str) -> None:
            drawn.set_postfix_str(text, refresh=False)
            drawn.update(done - drawn.n)

        yield show
