"""The pages that users read, and what can be checked in them: fenced blocks, links, headings."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```([\w-]*)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]\[]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_COMMAND = re.compile(r"^\s*(?:\$ )?(?:[A-Z_]+=\S+ )*((?:tidegauge|make) .*)$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def name_of(page: Path) -> str:
    """Name a page as people do."""
    return page.relative_to(ROOT).as_posix()


def blocks(language: str | None = None) -> list[Block]:
    """Give the fenced blocks of all pages, or those of one language."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in _FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(name_of(page), line, match[1], match[2]))
    return [block for block in found if language is None or block.language == language]


def commands() -> list[tuple[Block, list[str]]]:
    """Give the command lines in the blocks that are for a shell, as words, without what redirects or follows them."""
    found = []
    for block in blocks():
        if block.language not in ("", "console", "sh", "bash"):
            continue
        text = block.text.replace("\\\n", " ")
        found += [(block, words_of(match[1])) for match in _COMMAND.finditer(text)]
    return found


def words_of(line: str) -> list[str]:
    """Split a shell's line into words, up to the first `>`, `|`, `&` or comment."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=">|&;")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if word[0] in ">|&;":
            break
        words.append(word)
    return words


def prose(page: Path) -> str:
    """Give a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def links(page: Path) -> Iterator[str]:
    """Give where a page links to."""
    for match in _LINK.finditer(prose(page)):
        yield match[1]


def anchors(page: Path) -> set[str]:
    """Give the anchors that GitHub makes of a page's headings."""
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in _HEADING.findall(prose(page))}


def function_of(page: str, name: str) -> dict[str, object]:
    """Run the Python block of a page that defines a function, and give its names."""
    for block in blocks("python"):
        if block.page == page and re.search(rf"^(async )?def {name}\(", block.text, re.MULTILINE):
            names: dict[str, object] = {"__name__": "page"}
            exec(compile(block.text, str(block), "exec"), names)  # noqa: S102  # the page is ours
            return names
    raise LookupError(f"{page} has no Python block with the function {name}")
