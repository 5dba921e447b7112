"""The short form of benchmarks/faults, with tests/test_mutants.py: a trial a family of commands.

The two may take 90 processor seconds: `SECONDS` here, and the rest there.
"""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from processes import at_most

from benchmarks.faults import disk_full, kills, ranks, toy
from benchmarks.faults.families import WRITES_NOTHING
from medmcl.core.atomic import process_space
from medmcl.evaluation.report import page

SECONDS = 65
PRETRAIN = ("pretrain", "pretrain, stages at the same time", "pretrain --resume",
            "pretrain --reuse", "pretrain --keep")  # fmt: skip
"""A killed `pretrain` has tests of its own, in tests/stages/run."""
FAMILIES = {one.name: one for one in toy.FAMILIES if one.name not in (*PRETRAIN, "check")}
FULL = ("predict", "select", "cooccur count")


@pytest.fixture(scope="module", autouse=True)
def short():
    """Pages are read by people alone, and take most of an evaluation; copies take as long again."""
    pages = patch.object(page, "pages", lambda *_: ("", ""))
    with at_most(SECONDS), pages, patch.object(toy, "EAGER", False):
        yield


def commands(group, before=""):
    """The words of every command."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of click, as typer imports it
def test_every_command_that_writes_has_a_family():
    from typer.main import get_command

    from medmcl.cli.main import app

    known = set(commands(get_command(app)))
    words = [f"{family.words} " for family in toy.FAMILIES]
    tried = {one for one in known if any(each.startswith(f"{one} ") for each in words)}
    assert known - tried == set(WRITES_NOTHING)


@pytest.mark.parametrize("study", [kills, disk_full])
def test_every_family_has_rows_of_kills_and_of_full_disks(study):
    assert {row["family"] for row in study.STUDY.kept()} == {one.name for one in toy.FAMILIES}


@cache
def whole_of(name):
    """What an undisturbed command makes, `kills.undisturbed`; tried once."""
    with TemporaryDirectory() as folder:
        return kills.undisturbed(toy.home_once(), Path(folder), FAMILIES[name])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_killed_command_is_typed_again_and_makes_what_an_undisturbed_one_makes(name, tmp_path):
    home, family = toy.home_once(), FAMILIES[name]
    whole = whole_of(name)
    row = kills.killed_and_typed_again(home, tmp_path, family, 1, whole)
    assert {key: row[key] for key in kills.BAD} == {
        **dict.fromkeys(kills.BAD, False),
        "left": [],
    }, row
    assert whole["writes"] > 3


@pytest.mark.parametrize("before_end", [3, 8])
def test_parts_of_an_embedding_that_was_killed_as_it_tidied_up_go(before_end, tmp_path):
    home, family = toy.home_once(), FAMILIES["embed --shard"]
    whole = whole_of("embed --shard")
    place = kills.begun(home, tmp_path, family)
    assert place.type(place.words(family), at=whole["writes"] - before_end).code == -9
    assert toy.left_over(place)
    assert place.go_on(family)[0].code == 0
    assert not place.fault(family, whole["results"])
    assert not toy.left_over(place)


def test_parts_of_records_that_a_killed_process_was_taking_away_go(tmp_path):
    family = FAMILIES["prepare --shard"]
    place = kills.begun(toy.home_once(), tmp_path, family)
    cache = place.folder / "cache"
    assert place.type(place.words(family)).code == 0
    key = next(one.name for one in sorted(cache.iterdir()) if one.is_dir())
    (cache / f"{key}.parts" / "000000").mkdir(parents=True)
    (cache / f".{key}.parts.{process_space()}-999999999-0a0a0a0a.part" / "000001").mkdir(
        parents=True
    )
    assert place.type(place.words(family)).code == 0
    assert not [one for one in cache.iterdir() if ".parts" in one.name]


@pytest.mark.parametrize("name", FULL)
def test_a_full_disk_is_one_message_and_the_command_goes_on_when_there_is_space(name, tmp_path):
    (row,) = disk_full.at_writes(toy.home_once(), tmp_path, FAMILIES[name], seed=3, points=1)
    assert not any(row[key] for key in [*disk_full.COUNTED][1:]), row
    assert row["met"]


def test_ranks_of_which_one_dies_end_together_and_are_gone_on_with(tmp_path):
    inputs = ranks.begun(tmp_path)
    words = ranks.words_of(*inputs, tmp_path / "calm" / "run")
    assert {one.code for one in ranks.launched(words, tmp_path / "calm", 2)[0]} == {0}
    fault = ranks.Fault("killed", "a step in the middle", 1)
    whole = ranks.made(tmp_path / "calm" / "run")
    row = ranks.tried(fault, 2, inputs, tmp_path / "killed", whole)
    assert ranks.is_agreed(row)
    assert row["right"]
    assert not row["hung"] | row["tracebacks"]
