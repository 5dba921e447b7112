"""Captions are data: every one is asked for by its folder, and can be written."""

from __future__ import annotations

import ast
from pathlib import Path
from string import Formatter

import pytest

import medmcl.evaluation
from medmcl.core.config import read_yaml
from medmcl.evaluation.report.captions import caption

FILES = sorted(Path(medmcl.evaluation.__file__).parent.rglob("captions.yaml"))


def sentences(text):
    """Each with the value that it stands behind."""
    for one in [text] if isinstance(text, str) else text:
        yield from [("", one)] if isinstance(one, str) else one.items()


def asked(folder):
    """The names that modules ask for, and the values that they give with each."""
    for module in folder.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "caption":
                yield node.args[1].value, {value.arg for value in node.keywords}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_every_caption_is_asked_for_with_all_that_it_says(file):
    given, found = dict(asked(file.parent)), read_yaml(file)
    assert set(given) == set(found)
    for name, texts in found.items():
        assert {"title", "aid"} <= set(texts) <= {"title", "aid", "lead"}
        every = [one for text in texts.values() for one in sentences(text)]
        needs = {value for value, _ in every if value}
        needs |= {value for _, text in every for _, value, *_ in Formatter().parse(text) if value}
        assert {value.partition("[")[0] for value in needs} == given[name], name


def test_a_sentence_stands_only_where_its_value_does(tmp_path):
    (tmp_path / "captions.yaml").write_text(
        'one:\n  title: "{n:,} of {name}"\n  aid:\n    - First.\n    - more: "{more} more."\n'
    )
    here = str(tmp_path / "module.py")
    assert caption(here, "one", n=1000, name="b", more=0) == {
        "title": "1,000 of b",
        "aid": "First.",
    }
    assert caption(here, "one", n=1, name="b", more=2)["aid"] == "First. 2 more."
