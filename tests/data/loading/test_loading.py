""""""

from __future__ import annotations

import copy
import errno
import json
import multiprocessing
import os
import shutil
import signal as signals
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from row_draws import row_generator

from medmcl.core import writing
from medmcl.core.errors import ArtefactError, CohortError, ConfigError
from medmcl.core.sealed import SEAL, sealed
from medmcl.core.writing import DiskError
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.loading import worker_pool as processes
from medmcl.data.loading.cache import claimed_entry, read_entry, write_entry
from medmcl.data.loading.prepare import build_adapters, cache_folder, prepare
from medmcl.data.loading.reading import Outcome, content_digest, inspect_together
from medmcl.data.loading.view_settings import ViewSettings
from medmcl.data.loading.views import View
from medmcl.data.loading.worker_pool import worker_pool
from medmcl.modalities.ecg.adapter import ECG


def test_a_batch_holds_prepared_rows_and_zeros_where_absent(tiny, inputs):
    inputs = {**inputs, "cmr": {**inputs["cmr"], "size": 24}}  # as stored
    prepared = tiny.prepared(inputs)
    rows = prepared.rows("train")
    batch = prepared.batch(rows, tasks=("sick", "death"))
    assert batch.ids.tolist() == rows.tolist()
    assert {name: x.shape[1:] for name, x in batch.inputs.items()} == {
        name: adapter.prepared_shape for name, adapter in prepared.adapters.items()
    }
    assert batch.present["cmr"].tolist() == [n % 4 != 3 for n in range(8)]
    assert not batch.inputs["cmr"][3].any()
    assert batch.inputs["cmr"][2].any()
    raw = np.load(tiny.folder / "cmr.npy")[2]
    assert np.corrcoef(batch.inputs["cmr"][2].ravel(), raw.ravel())[0, 1] > 0.99
    assert batch.inputs["ecg"].dtype == torch.float32
    assert batch.inputs["report"].dtype == torch.int64
    assert batch.targets["sick"][:, 0].tolist() == [n % 2 for n in range(8)]
    assert batch.known["sick"].all()
    assert list(prepared.batch(rows[:2], modalities=("ecg",)).inputs) == ["ecg"]


def test_rows_are_the_same_bits_read_alone_just_prepared_and_from_the_cache(tiny, inputs):
    first, again = tiny.prepared(inputs), tiny.prepared(inputs)
    for name, adapter in again.adapters.items():
        rows = zip(first.inputs(name), again.inputs(name), strict=True)
        for place, both in zip(again.cohort.records[name]["place"], rows, strict=True):
            alone = adapter.prepare(adapter.read(place))
            assert [row.tobytes() for row in both] == [alone.tobytes()] * 2


def test_rows_ask_for_all_or_any_of_some_modalities(tiny, inputs):
    tiny.table.loc[0, "note"] = None
    prepared = tiny.prepared(inputs)
    assert 3 not in prepared.rows("train", ("cmr",))
    assert set(range(8)) - set(prepared.rows("train", ("cmr", "report"))) == {0, 3, 7}
    assert len(prepared.rows("train", ("cmr", "report"), how="any")) == 8


def test_held_out_cannot_be_reached_unless_it_was_opened(tiny, inputs):
    cohort = open_cohort(tiny.folder)
    prepared = prepare(cohort, inputs, cache=tiny.folder / "cache")
    with pytest.raises(ArtefactError, match="opened only by evaluate"):
        prepared.rows("held_out")
    with pytest.raises(ArtefactError, match="opened only by evaluate"):
        prepared.batch(cohort.split("held_out"))
    with pytest.raises(ArtefactError, match="opened only by evaluate"):
        prepared.batch(np.array([-1]))
    targets = prepared.tasks("sick")
    assert not targets.known[cohort.split("held_out")].any()
    assert not targets.values[cohort.split("held_out")].any()
    opened = prepare(cohort, inputs, cache=tiny.folder / "cache", splits="all")
    assert len(opened.rows("held_out")) == 2
    assert opened.tasks("sick").known.all()
    with pytest.raises(ConfigError, match="did you mean 'held_out'"):
        opened.rows("heldout")


def test_adapters_are_fitted_on_train_alone(tiny, inputs):
    tiny.table.loc[10:, "age"] = 1000
    tiny.table.loc[8, "note"] = "secretword secretword"
    tiny.write()
    one = {"clinic": inputs["clinic"], "report": inputs["report"]}
    states = {}
    for attempt in (0, 1):
        prepared = tiny.prepared(one)
        states[attempt] = {name: a.state() for name, a in prepared.adapters.items()}
        tiny.table.loc[8:, "age"] = 3
        tiny.write()
    assert states[0] == states[1]
    assert "secretword" not in str(states)


def test_a_state_that_is_given_is_used_and_nothing_is_fitted(tiny, inputs):
    cohort = open_cohort(tiny.folder)
    one = {"clinic": {}}
    state = prepare(cohort, one, cache=tiny.folder / "cache").adapters["clinic"].state()
    tiny.table["age"] = tiny.table["age"] + 20
    tiny.write()
    again = prepare(
        open_cohort(tiny.folder), one, cache=tiny.folder / "cache", fitted={"clinic": state}
    )
    assert again.adapters["clinic"].state() == state


def test_prepared_records_are_reused_until_what_they_depend_on_changes(tiny, inputs):
    folder = tiny.folder / "cache"
    entries = []

    def count(**changes):
        inputs["cmr"].update(changes)
        tiny.prepared({"cmr": inputs["cmr"]})
        entries.append(sorted(path.name for path in folder.iterdir()))
        return len(entries[-1])

    assert [count(), count(), count(size=6)] == [1, 1, 2]
    stored = np.load(tiny.folder / "cmr.npy")
    np.save(tiny.folder / "cmr.npy", stored + 1)
    os.utime(tiny.folder / "cmr.npy", ns=(1, 1))
    assert count() == 3
    tiny.tree["modalities"]["cmr"]["axes"] = "txy"
    tiny.write()
    assert count() == 4


def test_the_order_of_reading_is_told(tiny, inputs):
    seen = []
    for _ in range(2):
        prepare(open_cohort(tiny.folder), inputs, cache=tiny.folder / "c", progress=seen.append)
    total = 12 + 9 + 12 + 12
    assert seen[-1] == total
    assert sorted(seen[:total]) == seen[:total]
    assert seen[:total][0] == 1


KILLED = """
import os, sys
sys.path.insert(0, {here!r})
from medmcl.data.loading import cache
from medmcl.data.loading import outcome_parts as reads, prepare as loading
from medmcl.data.cohort.cohort import open_cohort
from pathlib import Path
plain = reads.outcomes
def slow(*args, **kwargs):
    for number, outcome in enumerate(plain(*args, **kwargs)):
        if number == 5:
            Path({flag!r}).write_text("half way")
            import time; time.sleep(60)
        yield outcome
reads.outcomes = slow
loading.prepare(open_cohort({folder!r}), {inputs!r}, cache=Path({cache!r}))
"""


def test_a_writer_killed_half_way_leaves_nothing_that_is_read(tiny, inputs):
    flag, folder = tiny.folder / "flag", tiny.folder / "cache"
    one = {"clinic": inputs["clinic"]}
    script = KILLED.format(
        here="", flag=str(flag), folder=str(tiny.folder), inputs=one, cache=str(folder)
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 60
    while not flag.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signals.SIGKILL)
    process.wait()
    assert len(list(folder.glob("*.part"))) == 1
    assert not [path for path in folder.iterdir() if path.suffix not in (".part", ".lock")]
    prepared = tiny.prepared(one)
    assert prepared.usable("clinic").all()
    assert prepared.inputs("clinic")[11].any()
    assert not [path for path in folder.iterdir() if path.suffix in (".part", ".lock")]
    (entry,) = folder.iterdir()
    left = folder / f".{entry.name}.lock"  # of one killed between the last write and its unlocking
    left.touch()
    tiny.prepared(one)
    assert not left.exists()


def _race(folder, inputs, cache, start, answers):
    start.wait()
    prepared = prepare(open_cohort(folder), inputs, cache=cache)
    answers.put(float(np.asarray(prepared.inputs("clinic")).sum()))


def test_of_two_writers_at_once_one_writes_and_all_read_the_same(tiny, inputs):
    context = multiprocessing.get_context("fork")
    start, answers = context.Event(), context.Queue()
    args = (tiny.folder, {"clinic": {}}, tiny.folder / "cache", start, answers)
    writers = [context.Process(target=_race, args=args) for _ in range(3)]
    for writer in writers:
        writer.start()
    start.set()
    sums = [answers.get(timeout=60) for _ in writers]
    for writer in writers:
        writer.join()
    assert len(set(sums)) == 1
    assert len(list((tiny.folder / "cache").iterdir())) == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "header", "text", "count"])
def test_a_damaged_entry_is_made_again(tiny, inputs, damage):
    folder = tiny.folder / "cache"
    one = {"clinic": inputs["clinic"]}
    whole = np.array(tiny.prepared(one).inputs("clinic"))
    path = next(folder.glob("*/clinic.npy"))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "empty":  # as a loss of power leaves files
        path.write_bytes(b"")
    elif damage == "header":
        path.write_bytes(path.read_bytes().replace(b"NUMPY\x01\x00v", b"NUMPY\x01\x00\xff", 1))
    elif damage == "text":
        path.with_suffix(".json").write_text("{")
    else:
        np.save(path, whole[:5])
    again = tiny.prepared(one)
    assert np.array_equal(again.inputs("clinic"), whole)


def test_an_entry_in_the_place_of_another_is_made_again(tiny, inputs):
    """A cache restored to other names holds sound entries: of other records."""
    one = {"ecg": inputs["ecg"]}
    sound = np.array(tiny.prepared(one).inputs("ecg"))
    (mine,) = (tiny.folder / "cache").glob("*/ecg.npy")
    kept = shutil.copytree(mine.parent, tiny.folder / "kept")
    key, rows = mine.parent.name, tiny.prepared(one).stored["ecg"]
    others = [
        Outcome(row, digest, (), None, 0)
        for row, digest in zip(
            np.asarray(rows.rows)[::-1], rows.digests[::-1].astype(str).tolist(), strict=True
        )
    ]
    write_entry(tiny.folder / "cache", "0" * 32, "ecg", others, sound.shape[1:], len(sound))
    shutil.rmtree(mine.parent)
    shutil.move(tiny.folder / "cache" / ("0" * 32), mine.parent)
    assert read_entry(mine.parent.parent, key, "ecg", len(sound)) is None
    assert np.array_equal(tiny.prepared(one).inputs("ecg"), sound)
    assert (mine.parent / "ecg.json").read_bytes() == (kept / "ecg.json").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"digests": lambda was: "\0" * 16 + was[16:]},  # a record that was found unusable
        {"findings": lambda was: {**was, "1": []}},
        {"shared": lambda was: [*was, {"level": "warning", "code": "x", "what": "y"}]},
        {"sketched": lambda was: False},
        {"sketches": lambda was: "0" * 32},
    ],
    ids=lambda one: next(iter(one)),
)
def test_facts_of_an_entry_are_believed_only_with_their_seal(tiny, inputs, change):
    one = {"ecg": inputs["ecg"]}
    before = tiny.prepared(one).stored["ecg"]
    file = next((tiny.folder / "cache").glob("*/ecg.json"))
    text = file.read_text()
    facts = json.loads(text)
    for key, changed in change.items():
        facts[key] = changed(facts[key])
    file.write_text(json.dumps(facts))
    again = tiny.prepared(one).stored["ecg"]
    assert again.digests.tolist() == before.digests.tolist()
    assert (again.findings, again.shared) == (before.findings, before.shared)
    assert again.usable.all()
    assert np.array_equal(again.sketches, before.sketches)
    assert file.read_text() == text  # prepared anew


def test_facts_hold_digests_as_one_text_and_an_earlier_version_s_list_is_read(tiny, inputs):
    one = {"ecg": inputs["ecg"]}
    before = tiny.prepared(one).stored["ecg"].digests.tolist()
    file = next((tiny.folder / "cache").glob("*/ecg.json"))
    facts = json.loads(file.read_text())
    assert facts.pop("digests") == b"".join(before).decode()
    del facts[SEAL]
    file.write_text(json.dumps(sealed({**facts, "digests": [one.decode() for one in before]})))
    text = file.read_text()
    assert tiny.prepared(one).stored["ecg"].digests.tolist() == before
    assert file.read_text() == text  # not prepared anew


def test_no_bit_of_the_facts_of_an_entry_flips_unseen(tiny, inputs):
    tiny.prepared({"clinic": inputs["clinic"]})
    file = next((tiny.folder / "cache").glob("*/clinic.json"))
    content, where = file.read_bytes(), (tiny.folder / "cache", file.parent.name, "clinic")
    count = len(json.loads(content)["digests"]) // 16
    assert read_entry(*where, count) is not None
    for place in range(len(content)):
        flipped = bytes([content[place] ^ 1 << place % 7])
        file.write_bytes(content[:place] + flipped + content[place + 1 :])
        assert read_entry(*where, count) is None, (place, flipped)


def test_prepared_records_that_the_disk_changed_are_not_read(tiny, inputs):
    folder = tiny.folder / "cache"
    one = {"clinic": inputs["clinic"]}
    whole = np.array(tiny.prepared(one).inputs("clinic"))
    rows = np.load(next(folder.glob("*/clinic.npy")), mmap_mode="r+")
    rows[len(rows) // 2 :] = 0
    rows.flush()
    prepared = tiny.prepared(one)
    half = len(rows) // 2
    assert np.array_equal(prepared.inputs("clinic")[:half], whole[:half])
    for read in (
        lambda: prepared.inputs("clinic")[half],
        lambda: prepared.inputs("clinic")[[0, half + 1], 0],
        lambda: np.asarray(prepared.inputs("clinic")),
        lambda: prepared.batch(np.flatnonzero(prepared.splits == "train")),
    ):
        with pytest.raises(ArtefactError, match=r"clinic\.npy: prepared .* not what was written"):
            read()
    shutil.rmtree(next(folder.glob("*/")))
    assert np.array_equal(tiny.prepared(one).inputs("clinic"), whole)


@pytest.mark.parametrize("keeps_time", [False, True])
def test_rows_that_are_changed_after_they_were_read_are_not_read_again(tiny, inputs, keeps_time):
    """As in a second epoch; without a new time of the file the rows sampled in each step tell."""
    prepared = tiny.prepared({"clinic": inputs["clinic"]})
    train = np.flatnonzero(prepared.splits == "train")
    for _ in range(3):
        prepared.batch(train)
    path = next((tiny.folder / "cache").glob("*/clinic.npy"))
    before = path.stat()
    rows = np.load(path, mmap_mode="r+")
    rows[len(rows) // 2 :] = 0
    rows.flush()
    if keeps_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ArtefactError, match=r"clinic\.npy: prepared .* not what was written"):
        [prepared.batch(train) for _ in range(len(train) if keeps_time else 1)]


def test_a_mapped_file_that_was_cut_is_an_error_and_no_signal(tiny, inputs):
    prepared = tiny.prepared({"clinic": inputs["clinic"]})
    path = next((tiny.folder / "cache").glob("*/clinic.npy"))
    os.truncate(path, 0)
    with pytest.raises(ArtefactError, match=r"got: +0 of \d+ bytes"):
        prepared.inputs("clinic")[0]


def test_what_will_not_fit_into_the_cache_is_refused_before_records_are_read(
    tiny, inputs, monkeypatch
):
    one = {"ecg": inputs["ecg"]}
    free = writing.shutil.disk_usage(tiny.folder)._replace(free=1000)
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda _: free)
    monkeypatch.setattr(ECG, "read", lambda *_: pytest.fail("a record was read"))
    with pytest.raises(
        DiskError, match=r"records of ecg (.|\n)*1 kB free(.|\n)*MEDMCL_CACHE=FOLDER"
    ):
        tiny.prepared(one)
    monkeypatch.undo()
    kept = np.array(tiny.prepared(one).inputs("ecg"))
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda _: free)
    assert np.array_equal(tiny.prepared(one).inputs("ecg"), kept)  # it is there, and needs none


@pytest.mark.parametrize("name", ["os.posix_fallocate", "os.fsync"])
def test_a_cache_disk_that_fills_up_leaves_nothing_half_and_goes_on(
    name, tiny, inputs, monkeypatch
):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(name, full)
    with pytest.raises(DiskError, match="the disk is full"):
        tiny.prepared({"ecg": inputs["ecg"]})
    assert not list((tiny.folder / "cache").iterdir())
    monkeypatch.undo()
    assert len(tiny.prepared({"ecg": inputs["ecg"]}).inputs("ecg")) == len(tiny.table)


def test_bad_records_refuse_the_run_and_all_are_named(tiny, inputs):
    for subject in ("s001", "s009"):
        path = tiny.folder / "ecg" / f"{subject}.dat"
        path.write_bytes(path.read_bytes()[:100])
    (tiny.folder / "ecg" / "s005.hea").unlink()
    with pytest.raises(CohortError) as caught:
        tiny.prepared(inputs)
    text = str(caught.value)
    for words in ("s001", "s009", "s005", "missing_file", "3 faults", "on_bad_record=exclude"):
        assert words in text


def test_bad_records_may_be_excluded_and_are_counted(tiny, inputs):
    (tiny.folder / "ecg" / "s005.hea").unlink()
    prepared = tiny.prepared(inputs, exclude=True)
    assert [finding.code for finding in prepared.excluded] == ["ecg.missing_file"]
    assert not prepared.present["ecg"][5]
    assert prepared.present["cmr"][5]
    assert prepared.index("ecg")[5] == -1
    assert not prepared.batch(np.array([5])).inputs["ecg"].any()
    assert "no such file" in prepared.faults("ecg")["s005"]
    assert prepared.usable("ecg").sum() == 11
    assert len(prepared.inputs("ecg")) == 12


def test_dead_leads_are_masked_counted_and_told_apart_to_the_views(tiny, inputs):
    for number, dead in ((2, [7]), (5, [7, 10]), (6, [0]), (8, [6, 7, 8, 9])):
        rows = tiny.read_ecg(f"s{number:03d}")
        rows[dead] = 0.0
        tiny.write_ecg(f"s{number:03d}", rows)
    masking = {"ecg": {**inputs["ecg"], "dead_leads": "mask"}}
    for told in (inputs, masking):
        with pytest.raises(CohortError, match=r"s008.*lead V1, V2, V3, V4 is constant"):
            tiny.prepared(told)
    cohort = open_cohort(tiny.folder, {"on_bad_record": "exclude"})
    for _ in range(2):  # the second is from the cache
        prepared = prepare(cohort, masking, cache=tiny.folder / "cache")
        assert np.flatnonzero(~prepared.present["ecg"]).tolist() == [8]
        assert prepared.masked_leads() == [
            "leads masked in 2 of 11 ecg records: "
            "lead V2 masked (constant) 2, lead V5 masked (constant) 1"
        ]
        codes = Counter(one.code for one in prepared.warnings if one.code.endswith("_lead"))
        assert codes == {"ecg.masked_lead": 3, "ecg.derived_lead": 1}
    view = View(ViewSettings(augment={"ecg": {"noise": 1.0}}), prepared.adapters, {})
    batch = prepared.batch(np.array([2, 5, 6, 7, 8]))
    shown = view(batch, row_generator())
    absent = (~shown.leads["ecg"]).nonzero().tolist()
    assert absent == [[0, 7], [1, 7], [1, 10], *([4, lead] for lead in range(12))]
    assert torch.equal(shown.inputs["ecg"].any(dim=2), shown.leads["ecg"])
    assert torch.equal(shown[1:3].leads["ecg"], shown.leads["ecg"][1:3])
    plain = View(ViewSettings(), prepare(
        cohort, {"ecg": inputs["ecg"]}, cache=tiny.folder / "cache").adapters, {})  # fmt: skip
    assert plain.adapters["ecg"].prepared_shape[1] == batch.inputs["ecg"].shape[2] - 1


def test_a_copy_under_another_subject_is_out_of_both(tiny, inputs):
    for suffix in (".dat", ".hea"):
        data = (tiny.folder / "ecg" / f"s000{suffix}").read_bytes()
        (tiny.folder / "ecg" / f"s008{suffix}").write_bytes(data.replace(b"s000.dat", b"s008.dat"))
    with pytest.raises(CohortError, match="exactly the content of record s008 of subject s008"):
        tiny.prepared(inputs)
    prepared = tiny.prepared(inputs, exclude=True)
    assert np.flatnonzero(~prepared.present["ecg"]).tolist() == [0, 8]
    assert len(prepared.excluded) == 2


def test_equal_texts_are_no_copies_but_share_an_identity(tiny, inputs):
    tiny.table.loc[:3, "note"] = "sinus rhythm"
    tiny.table.loc[5, "note"] = None
    prepared = tiny.prepared(inputs)
    codes = prepared.identity("report")
    assert codes[5] == -1
    assert len(set(codes[:4])) == 1
    assert len(set(codes[:8])) == 1 + 1 + 3
    assert (prepared.identity("cmr") == -1).tolist() == [n % 4 == 3 for n in range(12)]


def test_adapters_without_a_check_of_all_together_read_nothing():
    assert inspect_together(object(), "clinic", [None] * 3) == []


def test_a_modality_that_nobody_has_is_all_absent(tiny, inputs):
    tiny.tree["modalities"]["cmr"]["present"] = "has_cmr == 9"
    prepared = tiny.prepared(inputs)
    assert not prepared.present["cmr"].any()
    assert prepared.batch(np.arange(3)).inputs["cmr"].shape == (3, 3, 8, 8)
    assert (prepared.identity("cmr") == -1).all()


def test_lent_processes_give_the_same_rows_in_the_same_order(tiny, inputs, monkeypatch):
    cohort = open_cohort(tiny.folder)
    one = {"clinic": {}}
    here = prepare(cohort, one, cache=tiny.folder / "a")
    monkeypatch.setattr(processes, "_TRIED", 1)
    monkeypatch.setattr(processes, "_WORTH_SECONDS", 0.0)
    with worker_pool(2):
        there = prepare(cohort, one, cache=tiny.folder / "b")
    assert np.array_equal(here.inputs("clinic"), there.inputs("clinic"))


def test_settings_and_modalities_of_a_recipe_are_checked(tiny):
    cohort = open_cohort(tiny.folder)
    with pytest.raises(ConfigError, match="did you mean 'ecg'"):
        build_adapters(cohort, {"egc": {}})
    with pytest.raises(ConfigError, match=r"inputs\.ecg(?s:.*)did you mean 'rate_hz'"):
        build_adapters(cohort, {"ecg": {"rate": 3}})


def test_the_cache_lies_beside_the_runs_or_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.delenv("MEDMCL_CACHE", raising=False)
    assert cache_folder(tmp_path) == tmp_path / ".prepared"
    monkeypatch.setenv("MEDMCL_CACHE", str(tmp_path / "x"))
    assert cache_folder(tmp_path) == tmp_path / "x"


def test_exactly_one_bad_record_is_named_with_its_code_and_fix(tiny, inputs):
    (tiny.folder / "ecg" / "s005.hea").unlink()
    with pytest.raises(CohortError) as caught:
        tiny.prepared(inputs)
    text = str(caught.value)
    for words in ("subject s005, record s005", "[ecg.missing_file]", "1 fault)", "to fix"):
        assert words in text


def test_of_many_bad_records_twenty_are_named_and_the_others_counted(tmp_path, make_tiny, inputs):
    tiny = make_tiny(tmp_path, 26).only("ecg")
    for path in sorted((tmp_path / "ecg").glob("*.dat"))[:25]:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CohortError) as caught:
        prepare(open_cohort(tiny.folder), {"ecg": inputs["ecg"]}, cache=tmp_path / "cache")
    text = str(caught.value)
    assert text.count("[ecg.unreadable]") == 20
    assert "25 faults" in text
    assert "and 5 more" in text
    assert "subject s019, record s019" in text


def rename_signals(tiny):
    """Give every signal file another name than its record's, as PhysioNet's .mat files have."""
    for head in (tiny.folder / "ecg").glob("*.hea"):
        head.write_text(head.read_text().replace(f"{head.stem}.dat", f"signal_{head.stem}.mat"))
        head.with_suffix(".dat").rename(head.with_name(f"signal_{head.stem}.mat"))


def only_ecg(tiny, inputs, cache, **overrides):
    one = {"ecg": inputs["ecg"]}
    return prepare(open_cohort(tiny.folder, overrides), one, cache=cache)


def test_a_signal_file_of_another_name_that_is_mended_is_read_anew(tiny, inputs):
    rename_signals(tiny)
    tiny.tree["modalities"]["ecg"]["accept"] = {"*": ["checksum"]}
    tiny.write()
    path, cache = tiny.folder / "ecg" / "signal_s001.mat", tiny.folder / "cache"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(CohortError, match="is truncated"):
        only_ecg(tiny, inputs, cache)
    path.write_bytes(whole)
    first = np.array(only_ecg(tiny, inputs, cache).inputs("ecg"))
    assert first[1].any()
    half = (np.frombuffer(whole, "<i2") // 4 + np.arange(len(whole) // 2) % 5).astype("<i2")
    path.write_bytes(half.tobytes())
    os.utime(path, ns=(1, 1))
    assert not np.array_equal(only_ecg(tiny, inputs, cache).inputs("ecg")[1], first[1])


def test_two_sites_with_equal_names_sizes_and_times_do_not_share_an_entry(
    tmp_path, make_tiny, inputs
):
    kinds = [make_tiny(tmp_path / site, 8).only("ecg") for site in ("a", "b")]
    for one in kinds:
        one.tree["modalities"]["ecg"]["accept"] = {"*": ["checksum"]}
        one.write()
    for path in (tmp_path / "b" / "ecg").glob("*.dat"):
        path.write_bytes((np.fromfile(path, "<i2") // 2).astype("<i2").tobytes())
    for site in ("a", "b"):
        for path in (tmp_path / site / "ecg").iterdir():
            if path.suffix == ".hea":  # checksums have other lengths
                path.write_text(path.read_text().ljust(900, "#"))
            os.utime(path, ns=(10**18, 10**18))
    cut = [only_ecg(tiny, inputs, tmp_path / "cache") for tiny in kinds]
    assert len(list((tmp_path / "cache").iterdir())) == 2
    alone = only_ecg(kinds[1], inputs, tmp_path / "other")
    assert np.array_equal(cut[1].inputs("ecg"), alone.inputs("ecg"))


def test_a_fault_that_is_gone_is_not_taken_from_the_cache(tiny, inputs, monkeypatch):
    cache = tiny.folder / "cache"
    reads = []
    plain = ECG.read

    def fail(self, place):
        reads.append(place.record)
        if place.record == "s002":
            raise OSError("the network drive is away")
        return plain(self, place)

    monkeypatch.setattr(ECG, "read", fail)
    away = only_ecg(tiny, inputs, cache, on_bad_record="exclude")
    assert not away.present["ecg"][2]
    reads.clear()
    again = only_ecg(tiny, inputs, cache, on_bad_record="exclude")
    assert reads[0] == "s002"  # records that look alike are compared again after it
    assert "network drive" in again.faults("ecg")["s002"]
    monkeypatch.setattr(ECG, "read", plain)
    back = only_ecg(tiny, inputs, cache, on_bad_record="exclude")
    assert back.excluded == []
    assert back.present["ecg"].all()
    assert back.inputs("ecg")[2].any()


def test_a_missing_signal_file_is_a_missing_file(tiny, inputs):
    (tiny.folder / "ecg" / "s003.dat").unlink()
    prepared = only_ecg(tiny, inputs, tiny.folder / "cache", on_bad_record="exclude")
    assert [finding.code for finding in prepared.excluded] == ["ecg.missing_file"]
    assert "s003.dat" in prepared.excluded[0].where


def test_the_flow_counts_what_is_left_after_exclusions(tiny, inputs):
    cohort = open_cohort(tiny.folder, {"on_bad_record": "exclude"})
    sound = prepare(cohort, inputs, cache=tiny.folder / "cache")
    assert sound.flow() == cohort.flow()
    assert sound.exclusions() == ""
    for subject in ("s005", "s009"):
        (tiny.folder / "ecg" / f"{subject}.hea").unlink()
    (tiny.folder / "ecg" / "s001.dat").write_bytes(b"")
    flow = prepare(cohort, inputs, cache=tiny.folder / "cache").flow()
    assert flow[-5:] == [
        ("with report", 12, 12), ("with ecg usable", 9, 9),
        ("train", 8, 8), ("tuning", 2, 2), ("held_out", 2, 2),
    ]  # fmt: skip
    tiny.only("ecg")
    alone = only_ecg(tiny, inputs, tiny.folder / "cache", on_bad_record="exclude")
    assert alone.flow()[-4:] == [
        ("with ecg usable", 9, 9), ("train", 6, 6), ("tuning", 1, 1), ("held_out", 2, 2)
    ]  # fmt: skip
    assert alone.exclusions() == (
        "excluded 3 records of 12: ecg.missing_file 2, ecg.unreadable 1 "
        "(cohort.on_bad_record: exclude)"
    )


LONG = 5_000
BASE = np.linspace(0, 1, LONG)


def changed(middle):
    other = BASE.copy()
    other[LONG // 2] += middle
    return other


FORMS = {
    "table": lambda x: pd.DataFrame({"minute": np.arange(LONG), "counts": x}),
    "column": pd.Series,
    "tensor": torch.as_tensor,
    "array": lambda x: x,
    "list of arrays": lambda x: [x, x],
    "tables by name": lambda x: {"left": pd.DataFrame({"counts": x})},
    "texts": lambda x: np.array([f"{one:.9f}" for one in x], dtype=object),
    "plain list": list,
}


@pytest.mark.parametrize("form", FORMS)
def test_two_records_that_differ_in_the_middle_are_no_copies_and_equal_ones_are(form):
    one, again, other = FORMS[form](BASE), FORMS[form](BASE.copy()), FORMS[form](changed(1e-3))
    assert content_digest(one) == content_digest(again) == content_digest(copy.deepcopy(one))
    assert content_digest(one) != content_digest(other)


def test_what_columns_are_called_counts():
    one, other = pd.DataFrame({"a": BASE}), pd.DataFrame({"b": BASE})
    assert content_digest(one) != content_digest(other)


@contextmanager
def as_somebody_else():
    """Do as a user who owns nothing here: for root no folder is shut."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(mine)


def test_a_cache_of_somebody_else_is_no_traceback(tmp_path):
    cache = tmp_path / "cache"
    (cache / "k").mkdir(parents=True)
    cache.chmod(0)
    try:
        with as_somebody_else():
            assert read_entry(cache, "k", "ecg", 3) is None
            claimed = claimed_entry(cache, "k", lambda _: None)
            with pytest.raises(ArtefactError, match=r"(?s)cannot be .*MEDMCL_CACHE=FOLDER"):
                claimed.__enter__()
    finally:
        cache.chmod(0o700)
