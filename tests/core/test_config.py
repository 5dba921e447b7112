import os
import time
from typing import Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from medmcl.core.config import (
    Config,
    Loader,
    check,
    faults_of,
    fingerprint,
    lookup,
    parse_yaml,
    read_yaml,
    yaml_text,
)
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.overrides import apply_override, parse_overrides
from medmcl.core.path_suggestions import require_file
from medmcl.core.sealed import read_sealed


class Inner(Config):
    rate_hz: float = 500


class Outer(Config):
    ecg: Inner = Inner()
    seed: int


def test_an_unknown_key_names_its_nearest_neighbour_wherever_it_stands():
    with pytest.raises(ConfigError, match="did you mean 'rate_hz'") as caught:
        check(Outer, {"ecg": {"rate_h": 1}, "sed": 2, "seed": 1}, where="x.yaml", error=ConfigError)
    text = str(caught.value)
    assert "x.yaml" in text
    assert "ecg.rate_h" in text
    assert "did you mean 'seed'" in text  # both faults at once


def test_a_missing_and_a_mistyped_field_are_named_with_what_was_got():
    with pytest.raises(ConfigError) as caught:
        check(Outer, {"ecg": {"rate_hz": "fast"}}, where="x", error=ConfigError)
    assert "'seed' is missing" in str(caught.value)
    assert "'fast'" in str(caught.value)


def test_yaml_reads_scientific_numbers_and_refuses_a_key_given_twice():
    assert parse_yaml("a: 1e-3\nb: -2E5\nc: 1e5x") == {"a": 1e-3, "b": -2e5, "c": "1e5x"}
    with pytest.raises(ConfigError, match="twice"):
        parse_yaml("a: 1\na: 2")
    with pytest.raises(ConfigError, match="mapping"):
        parse_yaml("- 1")
    with pytest.raises(ConfigError, match="not valid YAML"):
        parse_yaml("a: [1")


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
NAMES = st.text() | st.sampled_from(
    ["on", "no", "1e-3", "64145795661e1400", "true", "~", "\x85", "a\u2028b"]
)
TREES = st.recursive(
    LEAVES | NAMES,
    lambda one: st.lists(one, max_size=3) | st.dictionaries(NAMES, one, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(NAMES, TREES, max_size=3), st.booleans(), st.sampled_from([None, False]))
def test_both_loaders_read_what_was_written(tree, is_unicode, flow):
    text = yaml_text(tree, allow_unicode=is_unicode, default_flow_style=flow)
    assert repr(parse_yaml(text)) == repr(yaml.load(text, Loader=Loader) or {}) == repr(tree)


@pytest.mark.parametrize("text", ["a:\n\tb: 1", "a: 1\t", "a: |#x", "a: >-#x", "a: \ud800"])
def test_what_libyaml_alone_would_take_is_refused(text):
    with pytest.raises(ConfigError, match="is not valid YAML"):
        parse_yaml(text)


def test_a_mark_of_byte_order_is_read_as_it_was():
    text = "\n\ufeffb: 2"
    assert parse_yaml(text) == yaml.load(text, Loader=Loader)


def test_yaml_cannot_build_objects():
    with pytest.raises(ConfigError):
        parse_yaml("a: !!python/object/apply:os.system ['true']")


def test_overrides_reach_into_mappings_and_into_lists_by_name_or_number():
    tree = {"stages": [{"name": "mdm", "epochs": 1}, {"name": "mmcl"}]}
    for dotted, value in parse_overrides(["stages.mdm.epochs=5", "stages.1.lr=1e-2"]).items():
        apply_override(tree, dotted, value)
    assert tree["stages"] == [{"name": "mdm", "epochs": 5}, {"name": "mmcl", "lr": 0.01}]
    with pytest.raises(ConfigError, match="mdm, mmcl"):
        apply_override(tree, "stages.nope.epochs", 1)
    with pytest.raises(ConfigError, match=r"a\.b=c"):
        parse_overrides(["no-sign"])


def test_lookup_lists_what_is_known():
    with pytest.raises(ConfigError, match="did you mean 'masked'"):
        lookup("objective", "maskd", {"masked": 1, "cross_modal": 2})


def test_a_fingerprint_does_not_depend_on_the_order_of_keys_but_on_every_value():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1, "b": 2}) != fingerprint({"a": 1, "b": 3})


def test_of_a_long_line_what_is_around_the_fault_is_shown():
    with pytest.raises(ConfigError, match=r"line 1, column 100007: is not valid YAML") as caught:
        parse_yaml("a: '" + 100_000 * "x" + "' }" + 100_000 * "y", where="cohort.yaml")
    assert "xxx' }yyy" in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a:\n  b: 1\n   c: 2\n", 3, 5, "mapping values are not allowed here"),
        ("a:\n    b: 1\n  c: 2\n", 3, 3, "expected <block end>"),
        ("a: [1, 2\nb: 3\n", 2, 2, "from line 1"),
        ("a: 1\na: 2\n", 2, 1, "the key 'a' stands twice"),
        ("a:\n\tb: 1\n", 2, 1, "token"),
        ("a: `b` / 2\n", 1, 4, 'in quotes: "`a column` / 2"'),
    ],
)
def test_broken_yaml_names_file_line_and_column(text, line, column, words):
    with pytest.raises(ConfigError, match="is not valid YAML") as caught:
        parse_yaml(text, where="my/cohort.yaml")
    said = str(caught.value)
    assert f"my/cohort.yaml, line {line}, column {column}: " in said
    assert words in said
    assert "unicode string" not in said
    assert caught.value.fix


class Kinds(Config):
    steps: int = 1
    rate: float = Field(1.0, gt=0, le=2)
    on: bool = True
    name: Literal["adam", "sgd"] = "sgd"
    sizes: tuple[int, ...] = ()
    inner: Inner = Inner()
    label: str = Field("x", pattern="^x")


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("steps", "twenty", "a whole number"),
        ("steps", 1.5, "a whole number"),
        ("rate", "fast", "a number"),
        ("rate", 0, "a number above 0"),
        ("rate", 3, "a number of at most 2"),
        ("on", "perhaps", "true or false"),
        ("name", "adamm", "'adam' or 'sgd'"),
        ("sizes", 3, "a list: [a, b]"),
        ("inner", 3, "a mapping: {key: value}"),
        ("label", 3, "a text"),
    ],
)
def test_a_value_of_the_wrong_kind_says_what_was_got_and_expected(field, value, expected):
    (fault,) = faults_of(Kinds, {field: value})
    assert fault.text.startswith(f"'{field}' must be {expected} (got {value!r})")
    assert (fault.got, fault.expected) == (repr(value), expected)
    assert "Input should" not in fault.text


def test_what_has_no_plain_words_keeps_those_of_its_check():
    (fault,) = faults_of(Kinds, {"label": "y"})
    assert "pattern" in fault.text
    assert fault.expected is None


LEVELS = [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]" for n in range(9)]
BOMBS = {
    "nine levels of aliases": "\n".join(["a0: &a0 [x, x]", *LEVELS]),
    "an alias of itself": "a: &a {b: [*a]}",
    "deeply nested": "a: " + "[" * 200 + "]" * 200,
    "deeper than Python goes, never closed": "a: " + "[" * 50_000,
    "deeper than libyaml goes in a minute": "a: " + "[{" * 190_000,
    "more values than any settings have": "a: [" + "1," * 2_500_000 + "1]",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_file_that_was_made_to_fill_the_memory_is_refused_at_once(bomb):
    began = time.process_time()
    with pytest.raises(ConfigError, match=r"bomb.yaml(.|\n)*more than a file of settings"):
        parse_yaml(bomb, where="bomb.yaml")
    assert time.process_time() - began < 10


def test_a_number_too_long_to_be_shown_and_brackets_without_end_are_no_settings():
    many = f"0x{'f' * 6000}"
    with pytest.raises(ConfigError, match="a number of 24,000 bits"):
        parse_yaml(f"seed: {many}")
    deep = "[" * 5000
    assert parse_overrides([f"a={many}", f"b={deep}"]) == {"a": many, "b": deep}


@pytest.mark.parametrize("given", [2**63, -(2**63), str(2**70)])
def test_a_whole_number_that_no_array_holds_is_no_setting(given):
    with pytest.raises(ConfigError, match=r"'seed'(.|\n)*below 2 to the power of 63"):
        check(Outer, {"seed": given}, where="x.yaml", error=ConfigError)
    assert check(Outer, {"seed": 2**63 - 1}, where="x.yaml", error=ConfigError).seed == 2**63 - 1


def test_more_values_may_be_allowed(monkeypatch):
    text = "a: [" + "1," * 300 + "1]"
    monkeypatch.setenv("MEDMCL_YAML_VALUES", "100")
    with pytest.raises(ConfigError, match="MEDMCL_YAML_VALUES=400"):
        parse_yaml(text)
    monkeypatch.setenv("MEDMCL_YAML_VALUES", "400")
    assert len(parse_yaml(text)["a"]) == 301
    monkeypatch.setenv("MEDMCL_YAML_VALUES", "many")
    with pytest.raises(ConfigError, match="no bound on values"):
        parse_yaml(text)


PAIRS = [f"b{n + 1}: &b{n + 1} !!pairs [{', '.join([f'k: *b{n}'] * 9)}]" for n in range(9)]


@pytest.mark.parametrize(
    "value",
    ["2001-99-99", "2001-12-14T25:59:43.1Z", "!!timestamp x", "!!int x", '!!int ""', "!!bool x",
     "!!float x", "9" * 5000, "!!pairs [k: 1]", "!!omap [k: 1]", "!!set {x, y}", "!!binary '!'",
     "&a !!pairs [k: *a]", "\n".join(["1", "b0: &b0 !!pairs [k: 1]", *PAIRS])],
)  # fmt: skip
def test_a_value_that_cannot_be_read_is_told_with_its_line(value):
    with pytest.raises(ConfigError, match=r"file.yaml, line \d+, column \d+: is not valid YAML"):
        parse_yaml(f"b: 1\na: {value}", where="file.yaml")


def test_a_time_of_day_is_no_number():
    told = parse_yaml("a: 12:30\nb: 1:2:3.5\nc: 1_000\nd: 1.5\ne: .inf\nf: -3\ng: 0x1f")
    assert told == {"a": "12:30", "b": "1:2:3.5", "c": 1000, "d": 1.5, "e": float("inf"), "f": -3,
                    "g": 31}  # fmt: skip


def test_what_is_no_file_or_has_no_end_is_refused_before_it_is_read(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "large.yaml").write_text("a: 1 # " + 40_000 * "-")
    monkeypatch.setenv("MEDMCL_RECORD_MB", "2")
    for name, words in (
        ("pipe", "is a named pipe"), ("zero", "is a device"), ("large", "MEDMCL_RECORD_MB=3"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            read_yaml(tmp_path / f"{name}.yaml")
        for reader in (read_sealed, lambda path: require_file(path, ArtefactError)):
            if name != "large":
                with pytest.raises(ArtefactError, match=words):
                    reader(tmp_path / f"{name}.yaml")


def test_a_known_name_is_found_without_going_through_all_names():
    """Parts of installed packages are looked for only if a name is none of medmcl's own."""

    class Lazy(dict):
        def __iter__(self):
            raise AssertionError("went through all names")

    assert lookup("part", "ecg", Lazy(ecg=1)) == 1
