"""Counts that shards share: nobody's files are overwritten, and no others' counts passed for them.

Each shard here counts one of two patients.
"""

import json
import re
import shutil
import signal

import pandas as pd
import pytest
import yaml
from killed import forked

from medmcl.cooccurrence.count.command import convert, count
from medmcl.cooccurrence.count.parts import work_folder
from medmcl.cooccurrence.count.run import Means
from medmcl.cooccurrence.count.shares import count_shard
from medmcl.cooccurrence.count.spec import load_spec
from medmcl.cooccurrence.exchange.folder import save_counts
from medmcl.core.errors import ArtefactError, CohortError
from medmcl.core.file_lock import alone
from medmcl.data.loading.shared_work import Shard

ROWS = [
    ("p1", "2020-01-30", "DM", "a"), ("p1", "2020-02-02", "C1", "a"),
    ("p2", "2020-05-01", "HT", "c"), ("p2", "2020-05-03", "C2", "d"),
    ("p2", "2020-05-03", "C1", "d"),
]  # fmt: skip
TABLE = {"kind": "table", "path": "e.csv", "subject": "p", "time": "t", "code": "c", "visit": "v"}
SPEC = {
    "schema": "medmcl/cooccurrence@1",
    "sources": [TABLE],
    "modalities": {"codes": {"prefix": ["DM", "HT"]}, "concepts": {"prefix": "C"}},
    "vocabulary": {"files": {"codes": "w.txt"}},
}
DAMAGED = (b"", b"[]", b"{}", b'{"origin": "x', b"\0" * 80, b"\xff", b"[" * 100_000)


@pytest.fixture
def folder(tmp_path):
    pd.DataFrame(ROWS, columns=["p", "t", "c", "v"]).to_csv(tmp_path / "e.csv", index=False)
    (tmp_path / "w.txt").write_text("DM\nHT\n")
    return tmp_path


def written(folder, **changes):
    (folder / "spec.yaml").write_text(yaml.safe_dump({**SPEC, **changes}))
    return load_spec(folder / "spec.yaml")


def meds(folder):
    convert(written(folder), folder / "meds", shards=4)
    return written(folder, sources=[{"kind": "meds", "path": "meds", "visit": "visit_id"}])


def whole(spec, out, **more):
    count(spec, out, save_counts, means=Means(), **more)
    return files(out)


def share(spec, out, shard="1/1"):
    return count_shard(spec, out, save_counts, Shard.read(shard), means=Means())


def files(out):
    return {one.relative_to(out): one.read_bytes() for one in out.rglob("*") if one.is_file()}


@pytest.mark.parametrize("is_begun", [False, True])
def test_what_lies_there_is_not_overwritten(folder, is_begun):
    spec, out = meds(folder), folder / "out"
    if is_begun:
        assert share(spec, out, "1/2").missing
    whole(written(folder, window="month"), folder / "other")
    shutil.copytree(folder / "other", out)
    (out / "released").mkdir()
    (out / "released" / "memory.json").write_text("{}")
    before = files(out)
    with pytest.raises(ArtefactError, match=r"out: holds(.|\n)*name a new folder"):
        share(spec, out, "2/2")
    assert files(out) == before


@pytest.mark.parametrize("changed", ["e.csv", "w.txt", "spec.yaml"])
@pytest.mark.parametrize("is_done", [False, True])
def test_counts_of_what_changed_since_are_not_passed_for_new_ones(folder, changed, is_done):
    spec, out = written(folder), folder / "out"
    share(spec, out, "1/1" if is_done else "2/2")  # the second has nothing to count
    assert (out / "manifest.json").is_file() == is_done
    if changed == "spec.yaml":
        spec = written(folder, window="month")
    else:
        with (folder / changed).open("a") as file:
            file.write("p3,2021-01-01,DM,x\n" if changed == "e.csv" else "XY\n")
    said = "holds something already" if is_done else "sources or vocabulary changed since"
    with pytest.raises(ArtefactError, match=said) as raised:
        share(spec, out, "1/1" if is_done else "1/2")
    if not is_done:
        assert f"remove {work_folder(out)} to count anew" in str(raised.value)
        shutil.rmtree(work_folder(out))
        assert not share(spec, out, "1/2").missing
        assert files(out) == whole(spec, folder / "whole")


def test_counts_that_others_took_the_place_of_are_not_passed_for_them(folder):
    spec, out = written(folder), folder / "out"
    share(spec, out)
    assert not share(spec, out).missing  # they are there
    shutil.rmtree(out)
    whole(written(folder, window="month"), folder / "other")
    shutil.copytree(folder / "other", out)
    with pytest.raises(ArtefactError, match="holds something already"):
        share(spec, out)


def test_a_count_without_shards_and_shards_keep_out_of_each_others_way(folder, monkeypatch):
    spec, out = meds(folder), folder / "out"
    assert share(spec, out, "1/2").missing == 1
    for resume in (False, True):
        with pytest.raises(ArtefactError, match=r"is counted by shards(.|\n)*--shard again"):
            whole(spec, out, resume=resume)
    assert not share(spec, out, "2/2").missing
    killed = folder / "killed"
    code, _ = forked(lambda: whole(spec, killed), folder, at="manifest.json")
    assert code == -signal.SIGKILL
    with pytest.raises(ArtefactError, match="go on with --resume and without --shard"):
        share(spec, killed, "1/2")
    assert whole(spec, killed, resume=True) == files(out)

    def meanwhile(*_):
        with pytest.raises(ArtefactError, match=r"a count is being made(.|\n)*held by process"):
            whole(spec, folder / "both")
        raise ZeroDivisionError

    monkeypatch.setattr("medmcl.cooccurrence.count.command.scan_shards", meanwhile)
    with pytest.raises(ZeroDivisionError):
        share(spec, folder / "both")


def test_a_shard_waits_for_a_count_without_shards(folder):
    spec, out = written(folder), folder / "out"
    with alone(out, "a count is being made"):
        assert forked(lambda: share(spec, out) and 0, folder, after=0.5)[0] == -signal.SIGKILL
    assert not work_folder(out).exists()


def test_another_number_of_shards_is_refused(folder):
    spec, out = meds(folder), folder / "out"
    share(spec, out, "1/2")
    with pytest.raises(ArtefactError, match=r"got:      3(.|\n)*give --shard 1/2 to 2/2; or"):
        share(spec, out, "3/3")
    assert not share(spec, out, "2/2").missing
    assert files(out) == whole(spec, folder / "whole")


def test_shards_that_two_took_each_other_for_dead_counted_are_counted_once(folder):
    spec, out = meds(folder), folder / "out"
    share(spec, out, "1/2")
    (part,) = (work_folder(out) / "parts").glob("part-*.npz")
    shutil.copy(part, part.with_name("part-twice.npz"))
    assert not share(spec, out, "2/2").missing
    assert files(out) == whole(spec, folder / "whole")


@pytest.mark.parametrize("kind", ["table", "meds"])
def test_a_spec_that_fails_leaves_nothing_in_the_way(folder, kind):
    right = written(folder) if kind == "table" else meds(folder)
    sources = [one.model_dump(mode="json") for one in right.keys.sources]
    changes = {"codes": {"prefix": "NO"}, "concepts": {"prefix": "C"}}
    wrong = written(folder, sources=sources, modalities=changes)
    for shard in ("1/2", "2/2"):
        with pytest.raises(CohortError, match=r"no event is of modality codes|no code that occurs"):
            share(wrong, folder / "out", shard)
    right = written(folder, sources=sources)
    share(right, folder / "out", "2/2")
    share(right, folder / "out", "1/2")
    with pytest.raises(CohortError):
        share(wrong, folder / "plain")
    assert whole(right, folder / "plain") == files(folder / "out")


@pytest.mark.parametrize("shards", [False, True])
def test_events_that_are_not_what_was_written_are_not_counted(folder, shards, caplog):
    spec, out = written(folder), folder / "out"
    expected = whole(spec, folder / "whole")
    make = (lambda: share(spec, out)) if shards else (lambda: whole(spec, out))
    assert forked(make, folder, at=".npz" if shards else "manifest.json")[0] == -signal.SIGKILL
    kept = folder / "kept"
    shutil.copytree(work_folder(out), kept)
    (file,) = (kept / "events" / "data").glob("*.parquet")
    raw = file.read_bytes()
    code = raw.index(b"DM")  # a bit of it gives DL, without a fault of the file
    for damage in (raw.replace(b"DM", b"DL"), raw[: len(raw) // 2], raw[:code] + bytes(30)):
        shutil.rmtree(work_folder(out), ignore_errors=True)
        shutil.rmtree(out, ignore_errors=True)
        out.with_name("out.counting.json").unlink(missing_ok=True)
        shutil.copytree(kept, work_folder(out))
        (work_folder(out) / "events" / "data" / file.name).write_bytes(damage)
        if shards:  # others may read them, so they are not written again
            fix = f"remove {work_folder(out)} to count anew"
            with pytest.raises(ArtefactError, match=f"are damaged(.|\n)*{re.escape(fix)}"):
                share(spec, out)
            shutil.rmtree(work_folder(out))
            share(spec, out)
        else:
            whole(spec, out, resume=True)
            assert "they are written again" in caplog.text
        assert files(out) == expected


@pytest.mark.parametrize("raw", DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_notes_are_no_tracebacks(folder, raw):
    spec, out = written(folder), folder / "out"
    share(spec, out, "2/2")
    note = work_folder(out) / "parts" / "shared.json"
    note.write_bytes(raw)
    with pytest.raises(ArtefactError, match=r"shared.json: is damaged(.|\n)*to count anew"):
        share(spec, out, "1/2")
    note.unlink()  # a count without shards, of which the events are left
    (work_folder(out) / "events.json").write_bytes(raw)
    expected = whole(spec, out, resume=True)
    told = folder / "out.counting.json"
    assert json.loads(told.read_text())["sources"]["events"] == {"e": 5}
    told.write_bytes(raw)
    with pytest.raises(ArtefactError, match="holds something already"):
        share(spec, out)
    assert files(out) == expected


def test_the_folder_that_this_runs_in_is_no_name(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(ArtefactError, match="is no name but the folder"):
        share(written(folder), folder)


def test_counts_may_be_made_in_the_folder_of_the_events(folder):
    spec = meds(folder)
    for shard in ("1/2", "2/2", "1/2"):
        stand = share(spec, folder / "meds" / "counts", shard)
    assert not stand.missing
