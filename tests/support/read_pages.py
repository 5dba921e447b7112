"""Reads the two pages of a report as a person does."""

from __future__ import annotations

import html
import re
from pathlib import Path

QUESTIONS = ("Who", "How well", "How sure", "For whom", "Against what")


def both_pages(folder: Path) -> str:
    """First page and appendix, as text of HTML."""
    return "".join(
        (folder / name).read_text(encoding="utf-8") for name in ("report.html", "appendix.html")
    )


def page_text(page: str) -> str:
    """A page without its pictures and its style; tags stay."""
    return re.sub(r"base64,[^\"]*|<style>.*?</style>", "", page, flags=re.DOTALL)


def visible(page: str) -> str:
    """Text of a page, folded parts among it; no tags, no style, no pictures."""
    body = page.split("<body>", 1)[1]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def questions(page: str) -> list[str]:
    """Questions that the first lines answer, each with a sentence below it."""
    short = re.search(r'<section class="headline".*?</section>', page, re.DOTALL)
    assert short
    return re.findall(r"<h3>([^<]*)</h3>\s*<ul>\s*<li>\S", short[0])


def check_pages(folder: Path, *, has_tasks: bool = True) -> tuple[str, str]:
    """Check what holds of every default report; give the first page and the appendix.

    The first page has at most 2,500 words, answers the five questions and shows no record of a
    person; on both pages every entry of the menu has its section, no section is empty, and every
    link leads somewhere.
    """
    pages = {
        name: (folder / name).read_text(encoding="utf-8")
        for name in ("report.html", "appendix.html")
    }
    anchors = {name: set(re.findall(r'<section[^>]* id="([^"]*)"', p)) for name, p in pages.items()}
    for name, page in pages.items():
        for file, anchor in re.findall(r'href="([^"#]*)#?([^"]*)"', page):
            assert not anchor or anchor in anchors[file or name], (name, file, anchor)
            assert not file or file in pages
        for section in re.findall(r"<section.*?</section>", page, re.DOTALL):
            rest = re.sub(r"<h2>.*?</h2>", "", section, flags=re.DOTALL)
            assert "<img" in rest or re.sub(r"<[^>]*>", "", rest).strip(), section[:200]
    first = pages["report.html"]
    assert len(visible(first).split()) <= 2500
    assert "data:image/png" not in re.sub(r"<figure>\s*<h3>Map of.*?</figure>", "", first,
                                          flags=re.DOTALL)  # fmt: skip
    if has_tasks:
        found = questions(first)
        assert [one for one in found if one in QUESTIONS] == list(QUESTIONS)
    return first, pages["appendix.html"]
