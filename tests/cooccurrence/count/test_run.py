"""Counting over shards: resumed, parallel, bounded, and what is refused or left out."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray_stub import RayStub
from small_counts import numbers

from medmcl.cooccurrence import Vocabulary
from medmcl.cooccurrence.count import run
from medmcl.cooccurrence.count.counter import count_events
from medmcl.cooccurrence.count.items import Tally
from medmcl.cooccurrence.count.parts import list_parts
from medmcl.cooccurrence.count.reading import Reading, read_tokens
from medmcl.cooccurrence.count.rules import Rules
from medmcl.cooccurrence.count.run import Means, count_shards, scan_shards
from medmcl.cooccurrence.count.vocabulary import choose_vocabulary, read_vocabulary
from medmcl.cooccurrence.count.workers import ray_cluster
from medmcl.core.errors import ArtefactError, CohortError, ConfigError, ExtraNotInstalledError
from medmcl.data.events.events import ModalityRule

MODALITIES = {
    "codes": ModalityRule(prefix="ICD//"),
    "concepts": ModalityRule(prefix="CUI//", not_prefix="CUI//X"),
}
READING = Reading(MODALITIES, visit="visit_id")
DAY = 86_400_000_000


def write(path, people, seed=0, events=40):
    """A shard of random events of these people."""
    draw = np.random.default_rng([seed, *people])
    count = len(people) * events
    codes = [f"ICD//{n}" if n < 8 else f"CUI//{n}" for n in draw.integers(0, 14, count)]
    time = draw.integers(0, 900, count) * DAY
    table = {
        "subject_id": pa.array(np.repeat(people, events), pa.int64()),
        "time": pa.array(time, pa.timestamp("us"), mask=draw.random(count) < 0.1),
        "code": codes,
        "visit_id": pa.array(draw.integers(0, 9, count), mask=draw.random(count) < 0.1),
        "site": [str(person % 2) for person in np.repeat(people, events)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path)
    return path


@pytest.fixture
def shards(tmp_path):
    return [write(tmp_path / f"s{n}.parquet", range(n * 10, n * 10 + 10)) for n in range(5)]


def vocabularies(shards, reading=READING, least=1):
    seen = scan_shards(shards, reading)
    return {
        name: choose_vocabulary(seen, name, min_occurrences=least, min_patients=1)
        for name in reading.modalities
    }


RULES = [
    Rules("record", within=True),
    Rules("days:30", within=True),
    Rules("days:30", "distinct"),
    Rules("month"),
    Rules("visit", within=True, drop_duplicates=True),
]


@pytest.mark.parametrize("rules", RULES, ids=lambda r: f"{r.window}-{r.pairing}")
def test_shards_memory_and_workers_do_not_matter(shards, tmp_path, rules):
    vocabulary = vocabularies(shards)
    tables = [pq.read_table(path) for path in shards]
    pq.write_table(pa.concat_tables(tables), tmp_path / "all.parquet")
    tally = Tally()
    tokens = read_tokens(tmp_path / "all.parquet", READING, vocabulary, 10**6, tally)
    expected = count_events(tokens, vocabulary, rules)
    assert tally.rows == 2000
    assert tally.subjects == expected.patients == 50
    for number, means in enumerate((Means(), Means(memory=5000), Means(fast=False, memory=5000))):
        mine, again = count_shards(
            shards, READING, vocabulary, rules, tmp_path / f"p{number}", means=means
        )
        assert numbers(mine) == numbers(expected)
        assert (again.shards, again.rows, again.events, again.subjects) == (5, 2000, 2000, 50)


def test_two_processes_give_the_same(shards, tmp_path):
    vocabulary, rules = vocabularies(shards), RULES[1]
    expected, _ = count_shards(shards, READING, vocabulary, rules, tmp_path / "one")
    means = Means(workers=2)
    mine, _ = count_shards(shards, READING, vocabulary, rules, tmp_path / "two", means=means)
    assert numbers(mine) == numbers(expected)
    assert len(list_parts(tmp_path / "two")) == 2


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_run as t
from medmcl.cooccurrence.count import run
real, seen = run.read_tokens, []
def deadly(path, *more):
    seen.append(path)
    if len(seen) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(path, *more)
run.read_tokens = deadly
folder = Path(sys.argv[2])
shards = sorted(folder.glob("s*.parquet"))
run.count_shards(shards, t.READING, t.vocabularies(shards), t.RULES[1], folder / "parts")
"""


def test_a_killed_count_goes_on_where_it_was(shards, tmp_path, monkeypatch):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, here, str(tmp_path)], env=environment, check=False
    )
    assert done.returncode == -9
    (part,) = list_parts(tmp_path / "parts")
    assert 1 <= len(part.shards) <= 2
    read, real = [], run.read_tokens
    monkeypatch.setattr(
        run, "read_tokens", lambda path, *more: read.append(path) or real(path, *more)
    )
    vocabulary, rules = vocabularies(shards), RULES[1]
    mine, tally = count_shards(shards, READING, vocabulary, rules, tmp_path / "parts")
    assert len(read) == 5 - len(part.shards)
    expected, whole = count_shards(shards, READING, vocabulary, rules, tmp_path / "fresh")
    assert numbers(mine) == numbers(expected)
    assert tally.as_dict() == whole.as_dict()


def test_a_changed_shard_is_counted_again(shards, tmp_path, caplog):
    vocabulary, rules, folder = vocabularies(shards), RULES[0], tmp_path / "parts"
    count_shards(shards, READING, vocabulary, rules, folder)
    write(shards[2], range(20, 30), seed=9)
    mine, _ = count_shards(shards, READING, vocabulary, rules, folder)
    assert "1 of its 5 shards changed" in caplog.text
    assert numbers(mine) == numbers(
        count_shards(shards, READING, vocabulary, rules, tmp_path / "fresh")[0]
    )


def test_parts_of_other_settings_or_damaged_are_refused(shards, tmp_path):
    vocabulary, folder = vocabularies(shards), tmp_path / "parts"
    count_shards(shards, READING, vocabulary, Rules("month"), folder)
    others = [
        (READING, vocabulary, Rules("visit")),
        (Reading(MODALITIES), vocabulary, Rules("month")),
        (READING, vocabularies(shards, least=150), Rules("month")),
    ]
    for reading, words, rules in others:
        with pytest.raises(ArtefactError, match="counted with other settings"):
            count_shards(shards, reading, words, rules, folder)
    (part,) = folder.glob("part-*")
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(ArtefactError, match="is no whole part"):
        count_shards(shards, READING, vocabulary, Rules("month"), folder)


def test_a_subject_in_two_shards_is_refused(shards, tmp_path):
    write(tmp_path / "s9.parquet", [99, 13])
    with pytest.raises(CohortError, match="a subject is in two shards") as raised:
        scan_shards([*shards, tmp_path / "s9.parquet"], READING)
    for named in ("s1.parquet", "s9.parquet", "subject 13"):
        assert named in str(raised.value)


def test_ray_maps_the_same_function(shards, tmp_path, monkeypatch):
    vocabulary, rules = vocabularies(shards), RULES[0]
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExtraNotInstalledError, match=r"medmcl\[ray\]"):
        count_shards(shards, READING, vocabulary, rules, tmp_path / "a", means=Means(ray=True))
    stub = RayStub()
    monkeypatch.setitem(sys.modules, "ray", stub)
    means = Means(ray=True, workers=2)
    mine, _ = count_shards(shards, READING, vocabulary, rules, tmp_path / "b", means=means)
    assert stub.said == ["init", "count_part", "count_part"]
    alone = count_shards(shards, READING, vocabulary, rules, tmp_path / "c")[0]
    assert numbers(mine) == numbers(alone)
    stub.said.clear()
    with ray_cluster():  # as many tasks as CPUs, and stopped at the end
        mine, _ = count_shards(
            shards, READING, vocabulary, rules, tmp_path / "d", means=Means(ray=True)
        )
    assert stub.said == ["init", "count_part", "count_part", "count_part", "shutdown"]
    assert numbers(mine) == numbers(alone)


def test_what_ray_cannot_do_is_told(shards, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", RayStub(answers=False))
    for address, said in (("127.0.0.1:1", "refused"), ("auto", "nobody there")):
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ConfigError, match=f"{address}: .*does not answer(?s:.)*{said}"):
            scan_shards(shards, READING, Means(ray=True))
    monkeypatch.delenv("RAY_ADDRESS")
    stub = RayStub()

    def give_up(_):
        raise stub.exceptions.RayError("out of memory\non some node")

    stub.get = give_up
    monkeypatch.setitem(sys.modules, "ray", stub)
    with pytest.raises(ArtefactError, match=r"scan: Ray gave up(?s:.)*RayError: out of memory"):
        scan_shards(shards, READING, Means(ray=True))


@pytest.mark.parametrize("lost", [True, False])
def test_parts_that_do_not_hold_every_shard_once_are_refused(shards, tmp_path, monkeypatch, lost):
    """A worker that was taken for dead may write its part over that of its successor."""
    vocabulary, whole = vocabularies(shards), run.count_part

    def odd(some, task, path):
        whole(some[:-1] if lost else some, task, path)
        if not lost:
            whole(some[:1], task, path.with_name("part-00077.npz"))

    monkeypatch.setattr(run, "count_part", odd)
    told = r"1 of 5 missing \(s\d\.parquet\), 0 too many" if lost else "0 of 5 missing .*1 too many"
    with pytest.raises(ArtefactError, match=f"every shard once(?s:.)*{told}"):
        count_shards(shards, READING, vocabulary, Rules(), tmp_path / "a")


@pytest.fixture
def cluster(real_ray):
    with ray_cluster():
        yield


def test_on_ray(shards, tmp_path, monkeypatch, cluster):
    """Counts are those of one process, also if a worker is killed; an error names its shard."""
    vocabulary, rules, whole = vocabularies(shards), RULES[1], run.count_part
    alone, tally = count_shards(shards, READING, vocabulary, rules, tmp_path / "a")
    killed = tmp_path / "killed"

    def killed_once(some, task, path):
        if killed.exists() or path.name != "part-00000.npz":
            whole(some, task, path)
            return
        whole(some[:1], task, path)
        killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(run, "count_part", killed_once)
    means = Means(ray=True, workers=2)
    mine, told = count_shards(shards, READING, vocabulary, rules, tmp_path / "b", means=means)
    assert killed.exists()
    assert numbers(mine) == numbers(alone)
    assert told == tally
    assert len(list_parts(tmp_path / "b")) == 2

    shards[3].write_bytes(shards[3].read_bytes()[:2000])
    with pytest.raises(CohortError, match=r"^\S+s3\.parquet: is not a whole parquet file"):
        scan_shards(shards, READING, means)


def test_numba_is_asked_for_by_its_extra(shards, tmp_path, monkeypatch):
    monkeypatch.setattr("medmcl.cooccurrence.count.counter.find_spec", lambda name: None)
    vocabulary = vocabularies(shards)
    with pytest.raises(ExtraNotInstalledError, match=r"medmcl\[fast\]"):
        count_shards(shards, READING, vocabulary, Rules(), tmp_path / "a", means=Means(fast=True))
    counts, _ = count_shards(shards, READING, vocabulary, Rules(), tmp_path / "b")
    assert counts.patients == 50


def odd_shard(tmp_path, codes):
    table = {
        "subject_id": pa.array([1] * len(codes), pa.int64()),
        "time": pa.nulls(len(codes), pa.timestamp("us")),
        "code": codes,
        "site": ["a", "b"] * (len(codes) // 2),
    }
    pq.write_table(pa.table(table), tmp_path / "odd.parquet")
    return [tmp_path / "odd.parquet"]


def test_what_is_left_out_is_counted(tmp_path):
    long = "ICD//" + "x" * 10_000
    shards = odd_shard(tmp_path, ["ICD//1", "ICD//1", "CUI//X1", "CUI//1", long, "ICD//2"])
    reading = Reading(MODALITIES)
    seen = scan_shards(shards, reading)
    assert seen.codes == {
        "codes": {"ICD//1": (2, 1), "ICD//2": (1, 1)},
        "concepts": {"CUI//1": (1, 1)},
    }
    vocabulary = vocabularies(shards, reading)
    vocabulary["codes"] = Vocabulary(("ICD//1",))
    counts, tally = count_shards(shards, reading, vocabulary, Rules(), tmp_path / "p")
    assert (tally.rows, tally.unassigned, tally.too_long, tally.outside_vocabulary) == (6, 1, 1, 1)
    assert (tally.events, tally.duplicates) == (3, 1)
    assert counts.D.toarray().tolist() == [[2]]
    for text in ("1 events of no modality", "1 events left out: longer than any code"):
        assert text in str(tally)
    one = Reading(MODALITIES, only=ModalityRule(column="site", values="a"))
    counts, tally = count_shards(shards, one, vocabulary, Rules(), tmp_path / "q")
    assert (tally.not_asked_for, tally.events) == (3, 1)


def test_an_event_of_two_modalities_is_refused(tmp_path):
    shards = odd_shard(tmp_path, ["ICD//1", "CUI//1"])
    both = {"a": ModalityRule(prefix=("ICD", "CUI")), "b": ModalityRule(column="site", values="b")}
    with pytest.raises(CohortError, match="a and b both claim an event") as raised:
        scan_shards(shards, Reading(both))
    assert "CUI//1" in str(raised.value)


def test_a_vocabulary_is_chosen_or_read(tmp_path):
    shards = odd_shard(tmp_path, ["ICD//b", "ICD//a", "ICD//b", "CUI//1"])
    seen = scan_shards(shards, Reading(MODALITIES))
    assert vocabularies(shards, Reading(MODALITIES))["codes"].tokens == ("ICD//a", "ICD//b")
    few = choose_vocabulary(seen, "codes", min_occurrences=2, min_patients=1)
    assert few.tokens == ("ICD//b",)
    with pytest.raises(CohortError, match="no code of modality codes is left"):
        choose_vocabulary(seen, "codes", min_occurrences=1, min_patients=2)
    (tmp_path / "v.txt").write_text("ICD//z\n\nICD//a\n")
    assert read_vocabulary(tmp_path / "v.txt", "3").tokens == ("ICD//z", "ICD//a")
    (tmp_path / "v.csv").write_text("code,about\n007,x\n08,y\n")
    assert read_vocabulary(tmp_path / "v.csv").tokens == ("007", "08")
    (tmp_path / "v.csv").write_text("code\n7\n7\n")
    with pytest.raises(ArtefactError, match="names a token twice"):
        read_vocabulary(tmp_path / "v.csv")


def test_empty_shards_count_nothing(shards, tmp_path):
    empty = tmp_path / "empty.parquet"
    pq.write_table(pq.read_table(shards[0]).slice(0, 0), empty)
    vocabulary = vocabularies([*shards, empty])
    mine, tally = count_shards([*shards, empty], READING, vocabulary, Rules(), tmp_path / "a")
    assert numbers(mine) == numbers(
        count_shards(shards, READING, vocabulary, Rules(), tmp_path / "b")[0]
    )
    assert tally.shards == 6
    with pytest.raises(CohortError, match="no code of modality codes is left"):
        vocabularies([empty])
