"""Check that every relative link of the Markdown files at the repository's root leads somewhere.

MkDocs checks the links between its own pages; it does not see these files.
"""

import re
import sys
from pathlib import Path

LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)")


def broken(page: Path) -> list[str]:
    """The links of a page whose target does not exist."""
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    return [f"{page.name}: {target}" for target in targets if not (page.parent / target).exists()]


if __name__ == "__main__":
    root = Path(__file__).parent.parent
    sys.exit("\n".join(link for page in sorted(root.glob("*.md")) for link in broken(page)) or None)
