"""Every example in the documentation runs, prints what it says, and names keys that exist."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from drawing import undrawn

from medmcl import models
from medmcl.cooccurrence.count.spec import CooccurrenceKeys
from medmcl.core.config import Config, check, parse_yaml
from medmcl.core.errors import ConfigError
from medmcl.core.key_help import texts_of
from medmcl.data.cohort import spec
from medmcl.data.cohort.manifest import parse_spec
from medmcl.encoders import ENCODERS
from medmcl.modalities import ADAPTERS, readers
from medmcl.modalities.image.adapter import Image
from medmcl.modalities.tabular import adapter as tabular
from medmcl.simulation.kinds import SIMULATORS
from medmcl.stages.recipe.file import read_recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = [page for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))] if page.is_file()]
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
EXPECTED = "#>"
CODE = re.compile(
    r"`(config|cohort|ecg|cmr|image|graph|tabular|text|task|pairing|index|genetics)\.(?!yaml`|md`)([a-z_]+)`"
)
WHOLE = """
schema: medmcl/cohort@1
subjects: {table: participants.tsv, id: subject_id, split: split}
modalities:
  ecg: {reader: wfdb, path: "ecg/{subject_id}"}
  cmr: {reader: nifti, path: "cmr/{subject_id}.nii.gz", axes: xyzt}
index: {column: baseline_date}
tasks:
  superclass: {kind: multilabel, of: ecg, columns: [NORM, MI]}
  infarct: {kind: binary, column: infarct}
"""
"""What a part of a cohort.yaml on a page is laid over, so that it can be checked as a whole."""


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int
    reason: str | None


def blocks(page: Path, language: str) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        line = text[: match.start("text")].count("\n") + 1
        found.append(Block(match["language"], match["text"], line, match["reason"]))
    return [block for block in found if block.language == language]


def said(page: Path, block: Block) -> str:
    """Where a block stands, for messages."""
    return f"{page.relative_to(ROOT)}, line {block.line}"


def expected_output(block: Block) -> list[str]:
    """Lines after ``#>``: what the block prints, all of it."""
    lines = [line.strip() for line in block.text.splitlines()]
    shown = [line.removeprefix(EXPECTED) for line in lines if line.startswith(EXPECTED)]
    return [line.removeprefix(" ") for line in shown]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def of_cohort(tree: dict) -> bool:
    """Whether a YAML block is a cohort.yaml or a part of one."""
    keys = {field.alias or name for name, field in spec.CohortKeys.model_fields.items()}
    return tree.get("schema") == "medmcl/cohort@1" or ("schema" not in tree and set(tree) <= keys)


def of_counts(tree: dict) -> bool:
    """Whether a YAML block is a spec of co-occurrence counts or a part of one."""
    return tree.get("schema") == "medmcl/cooccurrence@1" or "sources" in tree


def test_there_is_something_to_test():
    names = [page.name for page in PAGES]
    assert {"data_formats.md", "cohort.md"} <= set(names)
    assert len(blocks(ROOT / "docs" / "data_formats.md", "python")) > 10


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_run_top_to_bottom_and_print_what_they_say(
    page, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    namespace = {"__name__": "__docs__"}
    for block in blocks(page, "python"):
        padded = "\n" * (block.line - 1) + block.text
        code = compile(padded, str(page), "exec")
        if block.reason is None:
            with undrawn():
                exec(code, namespace)
            printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
            assert printed == expected_output(block), said(page, block)


def valid_cohort(tree: dict, where: str) -> None:
    base = {} if "schema" in tree else parse_yaml(WHOLE)
    for key, value in tree.items():
        merged = key in ("modalities", "tasks") and key in base
        base[key] = {**base[key], **value} if merged else value
    parsed, findings = parse_spec(base, where)
    assert not findings, "\n".join(map(str, findings))
    assert parsed is not None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_cohorts_recipes_and_specs_of_counts_and_parts_of_them_are_valid(page, tmp_path):
    for block in blocks(page, "yaml"):
        where = said(page, block)
        tree = parse_yaml(block.text, where)
        is_recipe = tree.get("schema") == "medmcl/recipe@1" or "extends" in tree
        assert of_cohort(tree) or is_recipe or of_counts(tree), where
        if of_cohort(tree):
            valid_cohort(tree, where)
        if is_recipe:
            file = tmp_path / f"line_{block.line}.yaml"
            file.write_text(block.text, encoding="utf-8")
            assert read_recipe(file).stages, where
        if of_counts(tree):
            whole = {"schema": "medmcl/cooccurrence@1", **tree}
            check(CooccurrenceKeys, whole, where, ConfigError)


@cache
def package_source() -> str:
    return "\n".join(path.read_text() for path in (ROOT / "medmcl").rglob("*.py"))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_finding_that_a_page_names_is_made_somewhere(page):
    source = package_source()
    for kind, code in CODE.findall(page.read_text(encoding="utf-8")):
        # whole, beside a prefix, after a placeholder (f"{kind}.duplicate"), or in one
        spellings = (f'"{kind}.{code}"', f'"{code}"', f'.{code}"', f"'{code}'")
        assert any(spelling in source for spelling in spellings), f"{page.name}: {kind}.{code}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_between_pages_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = page if not file else page.parent / file
        assert there.exists(), f"{page.name}: {target}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{page.name}: {target}"


@pytest.mark.parametrize(("file", "least"), [("SECURITY.md", 30), ("docs/scaling_up.md", 15)])
def test_tests_that_a_page_names_are_there(file, least):
    text = (ROOT / file).read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > least
    gone = [one for one in named if f"def {one[1]}(" not in (ROOT / one[0]).read_text()]
    assert not gone


def test_links_of_the_page_on_security_lead_to_files():
    text = (ROOT / "SECURITY.md").read_text()
    linked = (to.partition("#")[0] for to in re.findall(r"\]\((\w[^)]*)\)", text))
    assert not [to for to in linked if not (ROOT / to).exists()]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_images_lead_to_files(page):
    for target in images(page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).is_file(), f"{page.name}: {target}"


def images(text: str) -> list[str]:
    """Targets of images: Markdown, with a title or inside a link too, references, and HTML."""
    inline = re.findall(r"!\[[^\]]*\]\(<?([^)\s>]+)>?[^)]*\)", text)
    labels = re.findall(r"!\[[^\]]*\]\[([^\]]+)\]", text)
    defined = dict(re.findall(r"^\[([^\]]+)\]:\s*(\S+)", text, re.MULTILINE))
    html = re.findall(r"<(?:img|source)\b[^>]*?\bsrc(?:set)?=[\"']([^\"'\s]+)", text)
    return [*inline, *(defined.get(label, label) for label in labels), *html]


def test_images_are_found_in_every_spelling():
    text = (
        '![a](a.png) ![b](b.png "title") [![c](c.svg)](page.md) ![d][e] <img width=3 src="f.png">'
        "\n\n[e]: e.png\n"
    )
    assert images(text) == ["a.png", "b.png", "c.svg", "e.png", "f.png"]


def anchors(page: Path) -> set[str]:
    """Names of headings as links use them: lower case, dashes, no punctuation."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


KEYS = [
    spec.CohortKeys, spec.SubjectsKeys, spec.DateKeys, spec.SplitKeys, spec.RandomSplit,
    spec.JoinKeys, spec.ModalityKeys, spec.MapKeys, spec.IndexKeys, spec.PairingKeys,
    spec.RemoveKeys, spec.NoisyPairsKeys, *spec.TASKS.values(),
    *(adapter.Source for adapter in ADAPTERS.values()), tabular.Column,
]  # fmt: skip


@pytest.mark.parametrize("model", KEYS, ids=lambda model: model.__name__)
def test_the_cohort_page_explains_every_key(model):
    text = (ROOT / "docs" / "cohort.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE))
    names = {field.alias or name for name, field in model.model_fields.items()}
    assert names <= explained, f"not explained: {sorted(names - explained)}"
    assert listed(text, "reader") == {*readers(), "npy"}
    assert listed(text, "kind") == set(ADAPTERS)


def listed(text: str, key: str) -> set[str]:
    """Values in the first row of a key: its code words up to where the explanation begins."""
    row = re.search(rf"^\| `{key}` \| (.*)", text, re.MULTILINE)
    assert row, key
    return set(re.findall(r"`(\w+)`", row[1].partition(";")[0]))


def test_the_recipe_page_has_every_encoder_and_its_defaults():
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    section = text.partition("\n## Encoders\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \|[^|]*\| (.*) \|$", section, re.MULTILINE))
    assert set(rows) == set(ENCODERS) - set(models.names())
    assert "`medmcl models`" in section
    for name, row in rows.items():
        fields = ENCODERS[name].Settings.model_fields
        said = dict(re.findall(r"`(\w+)`(?: (\[.*?\]|\{.*?\}|[\w.]+))?", row))
        assert set(said) == set(fields), name
        for key, field in fields.items():
            if not field.is_required():
                value = parse_yaml(f"value: {said[key]}")["value"]
                shown = list(field.default) if isinstance(field.default, tuple) else field.default
                assert value == shown, f"{name}.{key}"


def test_the_recipe_page_lists_every_setting_of_images_as_the_code_has_it():
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    section = text.split("\n## Inputs: images\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == [*_settings_rows(Image.Settings), *_settings_rows(Image.Augment)]


@pytest.mark.parametrize("kind", SIMULATORS)
def test_the_cohort_page_lists_every_setting_of_a_simulation_as_the_code_has_it(kind):
    text = (ROOT / "docs" / "cohort.md").read_text(encoding="utf-8")
    section = text.split(f"### simulate {kind}\n")[1].split("\n## ")[0].split("\n### ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == _settings_rows(SIMULATORS.settings[kind])


def _settings_rows(model: type[Config]) -> list[str]:
    said, fields = texts_of(model), model.model_fields.items()
    return [f"| `{name}` | {_yaml(one.default)} | {said[name]} |" for name, one in fields]


def _yaml(value: object) -> str:
    if isinstance(value, tuple):
        return str(list(value))
    return str(value).lower() if isinstance(value, bool | None) else str(value)


def test_the_format_page_has_every_reader():
    text = (ROOT / "docs" / "data_formats.md").read_text(encoding="utf-8")
    for reader in {*readers(), "npy"}:
        assert re.search(rf"^\|.*`{reader}`", text, re.MULTILINE), reader
        assert re.search(rf"reader: {reader}\b", text) or reader == "ecg", reader


def test_nothing_of_the_workplace_is_named():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"/work\b|\.\./shared", text), page.name


def test_words_of_the_glossary_are_those_that_code_and_settings_have():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    folders = ("medmcl", "configs", "cohorts")
    files = [one for folder in folders for one in ROOT.glob(f"{folder}/**/*.*")]
    code = "\n".join(
        one.read_text(encoding="utf-8") for one in files if one.suffix in (".py", ".yaml")
    )
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", text, re.MULTILINE)
    assert len(words) > 20
    keys = {key for part in re.findall(r"`([^`]+)`", text) for key in re.findall(r"\w{3,}", part)}
    said = {one for word in words for one in word.split(", ")} | keys
    gone = [
        one
        for one in sorted(said)
        if not re.search(rf"(?<![^\W_]){re.escape(one)}", code, re.IGNORECASE)
    ]
    assert gone == []
