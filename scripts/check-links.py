"""Lists the relative links in Markdown files that lead nowhere: a missing file, or a heading that is not there.

Usage: check-links.py [DIRECTORY]. The exit status is 1 if there is one.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

# [text](target) and ![text](target "title"); a target with a scheme leads elsewhere, and is not looked at.
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)")
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`[^`\n]*`")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)


def pages(top: Path) -> Iterator[Path]:
    for path in sorted(top.rglob("*.md")):
        if not any(part.startswith(".") for part in path.relative_to(top).parts):
            yield path


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    text = FENCE.sub("", page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text)}


def broken(page: Path) -> Iterator[str]:
    text = page.read_text()
    for pattern in (FENCE, CODE):  # blanked, not removed: the line numbers stay
        text = pattern.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text)
    for link in LINK.finditer(text):
        target, _, anchor = link[1].partition("#")
        if ELSEWHERE.match(link[1]):
            continue
        there = (page.parent / target).resolve() if target else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            yield f"{page}:{text.count(chr(10), 0, link.start()) + 1}: {link[1]}"


def main(top: Path) -> int:
    found = [link for page in pages(top) for link in broken(page)]
    for link in found:
        print(link)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
