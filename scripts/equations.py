"""A MkDocs hook: ```math fences become MathML, which browsers draw without a script and without a network."""

import re

from latex2mathml.converter import convert

FENCE = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace every fence; each of its lines is one equation."""
    return FENCE.sub(_equations, markdown)


def _equations(fence: re.Match[str]) -> str:
    lines = (line for line in fence[1].splitlines() if line.strip())
    equations = "".join(convert(line, display="block") for line in lines)
    return f'<div class="equations">{equations}</div>'
