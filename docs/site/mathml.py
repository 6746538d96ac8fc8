"""Formulas as MathML, which browsers set by themselves: the site needs no script for them and no network."""

from __future__ import annotations

import html
import re
from typing import Any

from math_core import LatexToMathML

# What pymdownx.arithmatex writes: \( \) within a line, \[ \] in a paragraph of its own.
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
_CONVERTER = LatexToMathML(fancy_error=False)


def on_page_content(content: str, **_: Any) -> str:
    """Set the formulas of a page; MkDocs calls this with the HTML of each."""
    return _FORMULA.sub(_set, content)


def _set(formula: re.Match[str]) -> str:
    source, display = html.unescape(formula[2]).strip(), formula[1] == "div"
    if r"\tag" in source:  # allowed in a numbered environment only
        source = rf"\begin{{equation*}}{source}\end{{equation*}}"
    return _CONVERTER.convert_with_local_state(source, displaystyle=display)
