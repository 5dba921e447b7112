"""Records that shards read, killed, started twice: the bytes and the findings of one process."""

import json
import shutil

import numpy as np
import pytest
from killed import forked
from PIL import Image
from small_squares import write_squares
from typed import answer

from medmcl.data.check.check import check_cohort, check_shard
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.loading import shared_work
from medmcl.data.loading.prepare import prepare, prepare_shard
from medmcl.data.loading.shared_work import Parts, Shard, made_once

INPUTS = {"image": {"size": 16}, "caption": {"max_tokens": 8}}


@pytest.fixture(scope="module", autouse=True)
def few():
    """Parts of nine records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_work, "MOST_PARTS", 4)
        yield


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = write_squares(tmp_path_factory.mktemp("squares") / "cohort", people=36, side=16)
    (folder / "images" / "s0003.png").write_bytes(b"no picture")
    return open_cohort(folder, {"on_bad_record": "exclude"})


def bytes_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def whole(cohort, tmp_path_factory):
    cache = tmp_path_factory.mktemp("whole")
    return prepare(cohort, INPUTS, cache=cache), bytes_of(cache)


def make(cohort, text, cache):
    return prepare_shard(cohort, INPUTS, Shard.read(text), cache=cache)


def test_shards_that_are_killed_and_started_twice_prepare_the_bytes_of_one_process(
    cohort, whole, tmp_path
):
    assert make(cohort, "1/2", tmp_path) == Parts(own=4, of=8, missing=4)
    again = bytes_of(tmp_path)
    assert make(cohort, "1/2", tmp_path).missing == 4
    assert bytes_of(tmp_path) == again  # nothing is made twice
    code, _ = forked(lambda: make(cohort, "2/2", tmp_path) and 0, tmp_path, at="000003")
    assert code == -9
    assert bytes_of(tmp_path) != again  # it had made a part
    assert make(cohort, "2/2", tmp_path).missing == 0
    found = prepare(cohort, INPUTS, cache=tmp_path)
    assert {n: x for n, x in bytes_of(tmp_path).items() if ".part" not in n} == whole[1]
    assert list(tmp_path.glob("*.parts")) == []
    assert found.excluded == whole[0].excluded
    assert make(cohort, "1/2", tmp_path) == Parts()  # all is there
    for name in INPUTS:
        assert np.array_equal(found.inputs(name)[:], whole[0].inputs(name)[:])


def test_a_preparation_takes_the_parts_that_are_there(cohort, whole, tmp_path, monkeypatch):
    make(cohort, "1/2", tmp_path)
    read = []
    adapter = type(whole[0].adapters["image"])
    plain = adapter.read
    monkeypatch.setattr(adapter, "read", lambda me, place: read.append(place) or plain(me, place))
    prepare(cohort, INPUTS, cache=tmp_path)
    assert bytes_of(tmp_path) == whole[1]
    taken = len(read)
    prepare(cohort, INPUTS, cache=tmp_path / "elsewhere")
    assert (
        len(read) - taken == taken + 18 - 1
    )  # pictures; one that could not be read is tried again


def test_a_record_that_is_mended_between_shards_is_not_left_out(cohort, tmp_path):
    """Not by its part: another file is another entry."""
    folder = tmp_path / "cohort"
    shutil.copytree(cohort.root, folder)
    cache = tmp_path / "cache"
    for number in (1, 2):
        make(open_cohort(folder, {"on_bad_record": "exclude"}), f"{number}/2", cache)
    with Image.open(folder / "images" / "s0004.png") as other:
        other.rotate(90).save(folder / "images" / "s0003.png")
    mended = prepare(open_cohort(folder), INPUTS, cache=cache)
    assert mended.excluded == []


def test_shards_check_what_one_process_does(cohort, tmp_path):
    told = []
    stands = [
        check_shard(cohort, INPUTS, Shard(number, 3), parts=tmp_path, progress=told.append)
        for number in (3, 1, 1, 2)
    ]
    assert [stand.missing for stand in stands] == [6, 2, 2, 0]
    plain, shared = (check_cohort(cohort, INPUTS, parts=parts) for parts in (None, tmp_path))
    assert list(shared) == list(plain)
    assert any(one.code == "image.unreadable" for one in plain)
    assert str(shared.overview) == str(plain.overview)
    left = next(tmp_path.glob("*.parts")) / ".000000.lock"
    left.write_text("")  # of a shard that was killed once its part was whole
    again = check_shard(cohort, INPUTS, Shard(1, 3), parts=tmp_path, progress=told.append)
    assert (again.missing, left.exists()) == (0, False)  # parts stay: whoever asks again is told


def test_of_shards_that_end_at_the_same_time_one_is_the_last(cohort, tmp_path):
    others = []

    def at_captions(done):
        if done > 18 and not others:  # pictures of the other were missing until now
            others.append(check_shard(cohort, INPUTS, Shard(2, 2), parts=tmp_path, progress=id))

    stand = check_shard(cohort, INPUTS, Shard(1, 2), parts=tmp_path, progress=at_captions)
    assert others[0].missing > 0
    assert stand.missing == 0


def test_commands_take_a_shard_each_and_the_last_one_tells(cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDMCL_CACHE", str(tmp_path / "cache"))
    words = ["--cohort", cohort.root, "--workers", "0"]
    plain = answer("check", *words)
    first, last = (answer("check", *words, "--shard", f"{number}/2") for number in (1, 2))
    assert "shard 1/2 is done (4 of 8 parts); 4 parts of other shards are missing" in first.stdout
    assert (first.returncode, last.returncode) == (0, plain.returncode)
    told = [
        [line for line in one.stdout.splitlines() if "memory" not in line and "[00:" not in line]
        for one in (last, plain)
    ]
    assert told[0] == told[1] != []
    words += ["--recipe", "clip_toy", "--out", tmp_path / "run"]
    words += ["--set", "cohort.on_bad_record=exclude"]
    first, last = (answer("prepare", *words, "--shard", f"{number}/2") for number in (1, 2))
    assert "whoever makes the last of them joins them in" in first.stdout
    assert "prepared: 36 image records, 36 caption records, in " in last.stdout
    assert "excluded 1 records of 72" in last.stdout
    made = bytes_of(tmp_path / "cache").keys()
    assert answer("prepare", *words).returncode == 0
    assert bytes_of(tmp_path / "cache").keys() == made
    told = answer("prepare", *words, "--shard", "3/2")
    assert told.returncode == 2
    assert "is no shard" in told.stderr


def test_what_a_machine_left_that_died_is_taken_over_and_who_was_quicker_is_heeded(tmp_path):
    lock = tmp_path / ".part.lock"
    left = {"host": "ward-17", "process": 312, "since": "2026-11-28T10:00:00+00:00", "boot": "b"}
    lock.write_text(json.dumps(left))
    assert made_once(tmp_path / "part", "a part is being read", lambda: None, lambda: 3) == 3
    assert not lock.exists()
    there = []

    def too_late():
        there.append(4)
        raise FileExistsError

    found = made_once(
        tmp_path / "part", "a part is being read", lambda: there[0] if there else None, too_late
    )
    assert found == 4
