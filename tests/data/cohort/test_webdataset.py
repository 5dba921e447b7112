"""WebDataset shards and folders of images as tables: read, broken, written, read again."""

import copy
import gzip
import io
import json
import shutil
import tarfile

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from short_runs import unreported
from typed import typed

import medmcl
from medmcl.core import members
from medmcl.core.errors import CohortError, RecordError
from medmcl.data.cohort.cohort import load_cohort, open_cohort
from medmcl.data.loading.prepare import prepare
from medmcl.data.loading.shards import write_shards
from medmcl.data.tables.files import read_table

INPUTS = {
    "image": {"size": 16},
    "caption": {"max_tokens": 12, "tokeniser": "bpe", "vocabulary": 300},
}
TREE = {
    "schema": "medmcl/cohort@1",
    "data_root": ".",
    "subjects": {"table": "shards/*.tar", "id": "key", "split": "side"},
    "modalities": {
        "image": {"reader": "image", "path": "{image}"},
        "caption": {"reader": "text", "path": "{txt}"},
    },
    "tasks": {"ill": {"kind": "binary", "column": "cls == 1"}},
}
SIDES = ["train"] * 6 + ["tuning"] * 2 + ["held_out"] * 2


def picture(seed, kind="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 24), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def pack(path, files, **fields):
    """Write a tar of (name, bytes), as a stranger would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(content))


def sample(number, side="train", kind="PNG", **fields):
    """The members of one sample."""
    suffix = {"PNG": "png", "JPEG": "jpg"}[kind]
    return [
        (f"{number:04d}.{suffix}", picture(number, kind)),
        (f"{number:04d}.txt", f"caption {number} of {side}".encode()),
        (f"{number:04d}.cls", f"{number % 2}\n".encode()),
        (f"{number:04d}.json", json.dumps({"side": side, "age": 40 + number, **fields}).encode()),
    ]


def samples():
    return [sample(n, side, "JPEG" if n % 2 else "PNG") for n, side in enumerate(SIDES)]


@pytest.fixture
def packed(tmp_path):
    """A cohort of ten samples in three shards."""
    folder = tmp_path / "packed"
    for number, part in enumerate([samples()[:4], samples()[4:8], samples()[8:]]):
        pack(folder / f"shards/{number:03d}.tar", [one for each in part for one in each])
    write(folder, TREE)
    return folder


@pytest.mark.parametrize("what", ["a folder", "a shard", "a text in JSON"])
def test_a_name_that_is_not_utf_8_is_refused_by_name(what, tmp_path):
    """Latin-1 of an old archive ended in a traceback of a table that cannot hold it."""
    odd = "gr\udcfcn.png"
    if what == "a shard":
        pack(tmp_path / "s" / "0.tar", [*sample(0), (odd, picture(1))], pax_headers={})
    else:
        (tmp_path / "s").mkdir()
        for name, content in sample(0):
            (tmp_path / "s" / name).write_bytes(content)
        other = odd if what == "a folder" else "0001.png"
        (tmp_path / "s" / other).write_bytes(picture(1))
    if what == "a text in JSON":
        (tmp_path / "s" / "0001.json").write_text('{"note": "\\ud800"}')
    kept = {"schema": "medmcl/cohort@1", "subjects": {"table": "s/*"}}
    kept["modalities"] = {"image": {"reader": "image", "record": "key", "path": "{image}"}}
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(kept))
    with pytest.raises(CohortError, match=r"gr.udcfcn|half a surrogate pair") as told:
        open_cohort(tmp_path)
    assert str(told.value).isascii()


def write(folder, tree):
    (folder / "cohort.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")


def changed(folder, **sections):
    write(folder, {**TREE, **sections})
    return folder


def arrays(folder, inputs=INPUTS):
    prepared = prepare(open_cohort(folder), inputs, cache=folder / "cache", splits="all")
    batch = prepared.batch(np.arange(len(prepared.cohort.samples)))
    states = {name: adapter.state() for name, adapter in prepared.adapters.items()}
    return batch.inputs, batch.present, states


def said(folder):
    """Every finding of a check, as one text."""
    return "\n".join(map(str, medmcl.check(folder)))


# ------------------------------------------------------------------ read


def test_a_shard_is_a_table_with_a_row_a_sample(packed):
    frame = read_table(packed, "shards/*.tar").frame
    assert frame["key"].tolist() == [f"{n:04d}" for n in range(10)]
    assert frame["member"].tolist()[:5] == [*(f"000/{n:04d}" for n in range(4)), "001/0004"]
    assert frame["png"].dropna().tolist() == [
        f"shards/{n // 4:03d}.tar/{n:04d}.png" for n in range(0, 10, 2)
    ]
    assert frame["image"].notna().all()
    assert frame["cls"].tolist() == [n % 2 for n in range(10)]
    assert frame["age"].tolist() == list(range(40, 50))
    assert frame["folder"].tolist() == ["shards"] * 10


def test_names_of_members_are_read_as_webdataset_reads_them(tmp_path):
    files = [
        ("./a/x.1.seg.PNG", b"1"), ("./a/x.1.json", b'{"key": 7}'), ("b/y.png", b"2"),
        ("b/._y.png", b"mac"), ("README", b"no dot"), ("__meta__/z.txt", b"meta"),
    ]  # fmt: skip
    pack(tmp_path / "train/site-a-0001.tar", files)
    table = read_table(tmp_path, "*/*.tar")
    assert table.frame["key"].tolist() == ["a/x", "b/y"]
    assert table.frame["1.seg.png"].tolist() == ["train/site-a-0001.tar/a/x.1.seg.PNG", None]
    assert table.frame["1.seg"].tolist() == table.frame["1.seg.png"].tolist()
    assert table.frame["image"].tolist() == [None, "train/site-a-0001.tar/b/y.png"]
    assert table.frame["set"].tolist() == ["site-a"] * 2
    assert table.frame["shard"].tolist() == ["train/site-a-0001"] * 2
    assert table.frame["1.json"].notna().tolist() == [True, False]
    assert [note.split(" of ")[0] for note in table.notes] == ["3 members"]
    assert members.open_binary(tmp_path / table.frame["1.seg"][0]).read() == b"1"
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "folder.tar/c.png").write_bytes(b"3")
    assert members.split(tmp_path / "folder.tar/c.png") is None
    with members.open_binary(tmp_path / "folder.tar/c.png") as file:
        assert file.read() == b"3"


def test_fields_never_hide_what_names_a_sample(tmp_path):
    pack(tmp_path / "a.tar", [("k.png", picture(0)), ("k.json", b'{"key": 1, "png": 2, "n": 3}')])
    frame = read_table(tmp_path, "a.tar").frame
    assert frame.iloc[0][["key", "png", "json.key", "json.png", "n"]].tolist() == [
        "k", "a.tar/k.png", 1, 2, 3,
    ]  # fmt: skip


def test_packed_in_a_folder_or_listed_the_same_arrays_come_out(packed, tmp_path):
    folder = tmp_path / "unpacked"
    (folder / "images").mkdir(parents=True)
    for name, content in [one for each in samples() for one in each]:
        (folder / "images" / name).write_bytes(content)
    subjects = {"table": "images/*", "id": "key", "split": "side"}
    changed(folder, subjects=subjects)
    listed = tmp_path / "listed"
    shutil.copytree(folder, listed)
    rows = [
        {
            "key": f"k{n:04d}", "side": side, "cls": n % 2,
            "picture": f"images/{n:04d}.{'jpg' if n % 2 else 'png'}",
            "words": f"caption {n} of {side}",
        }
        for n, side in enumerate(SIDES)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(listed / "people.csv", index=False)
    modalities = {
        "image": {"reader": "image", "path": "{picture}"},
        "caption": {"reader": "text", "column": "words"},
    }
    changed(listed, modalities=modalities, subjects={**subjects, "table": "people.csv"})
    one, other, third = arrays(packed), arrays(folder), arrays(listed)
    for name in INPUTS:
        assert (one[0][name] == other[0][name]).all()
        assert (one[0][name] == third[0][name]).all()
    assert one[2] == other[2] == third[2]
    assert one[0]["image"].std() > 0.1
    for cohort in map(open_cohort, (packed, folder)):
        assert list(cohort.targets("ill").values[:, 0]) == [n % 2 for n in range(10)]
        assert [int(one) for one in cohort.subjects["age"]] == list(range(40, 50))


def test_a_folder_of_classes_needs_no_table(tmp_path):
    for number in range(8):
        path = tmp_path / f"xray/{'ill' if number % 2 else 'well'}/{number // 2}.v1.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    (tmp_path / "xray/ill/0.v1.txt").write_text("words")
    split = {"random": {"seed": 1, "tuning": 0.2, "held_out": 0.2}}
    tree = {
        **copy.deepcopy(TREE),
        "subjects": {"table": "xray/*/*", "id": "key", "split": split},
        "tasks": {"ill": {"kind": "multiclass", "column": "folder"}},
    }
    write(tmp_path, tree)
    cohort = open_cohort(tmp_path)
    assert cohort.subjects.index[:2].tolist() == ["ill/0.v1", "ill/1.v1"]
    assert cohort.targets("ill").classes == ("ill", "well")
    assert cohort.samples["caption"].notna().sum() == 1
    tree["subjects"]["table"] = "xray/*/*.png"
    del tree["modalities"]["caption"]
    write(tmp_path, tree)
    again = open_cohort(tmp_path)
    assert again.subjects["split"].tolist() == cohort.subjects["split"].tolist()
    assert again.subjects["png"].iloc[0] == "xray/ill/0.v1.png"


def test_a_table_beside_the_shards_says_who_is_who(packed):
    rows = {"patient": [f"p{n // 2}" for n in range(10)], "key": [f"{n:04d}" for n in range(10)]}
    people = pd.DataFrame({**rows, "side": ["train"] * 6 + ["tuning"] * 2 + ["held_out"] * 2})
    people.to_csv(packed / "people.csv", index=False)
    joined = {"table": "shards/*.tar", "join": [{"table": "people.csv", "on": "key"}]}
    modalities = {
        name: {**one, **joined, "id": "patient", "record": "key"}
        for name, one in TREE["modalities"].items()
    }
    changed(
        packed,
        subjects={"table": "people.csv", "id": "patient", "split": "side"},
        modalities=modalities,
        pairing={"on": "record"},
        tasks={"ill": {"kind": "binary", "of": "image", "column": "cls == 1"}},
    )
    cohort = open_cohort(packed)
    assert len(cohort.subjects) == 5
    assert cohort.samples["subject"].tolist() == rows["patient"]
    assert cohort.targets("ill").values[:, 0].tolist() == [n % 2 for n in range(10)]


def test_the_fingerprint_takes_what_is_said_of_samples_not_when_it_was_packed(packed):
    first = open_cohort(packed).fingerprint
    files = [one for each in samples()[:4] for one in each]
    pack(packed / "shards/000.tar", files, mtime=99, uid=7)
    assert open_cohort(packed).fingerprint == first
    pack(packed / "shards/000.tar", [*files[:3], (files[3][0], b'{"side": "tuning"}'), *files[4:]])
    assert open_cohort(packed).fingerprint != first


def test_a_changed_shard_is_prepared_anew(packed):
    before = arrays(packed)[0]["image"]
    other = [sample(n, "train", "JPEG" if n % 2 else "PNG") for n in range(4)]
    other[2][0] = ("0002.png", picture(77))
    pack(packed / "shards/000.tar", [one for each in other for one in each], mtime=5)
    after = arrays(packed)[0]["image"]
    assert [bool((a == b).all()) for a, b in zip(before, after, strict=True)] == [
        row != 2 for row in range(10)
    ]


# ------------------------------------------------------------------ broken


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def test_a_shard_cut_anywhere_is_refused(tmp_path):
    path = tmp_path / "a.tar"
    pack(path, sample(0))
    whole = path.read_bytes()
    end = max(span.offset + span.size for span in members.archive(path).members.values())
    end += -end % tarfile.BLOCKSIZE
    for size in [*range(0, end + 1, 256), end + 511]:
        path.write_bytes(whole[:size])
        with pytest.raises(RecordError, match=r"cut short|empty \(zero"):
            members.archive(path)
    path.write_bytes(whole[: end + tarfile.BLOCKSIZE])  # one empty block says that it is the end
    assert len(members.archive(path).members) == 4


def test_a_damaged_header_is_no_end(packed):
    path = packed / "shards/001.tar"
    content = bytearray(path.read_bytes())
    at = members.archive(path).members["0005.txt"].offset - tarfile.BLOCKSIZE
    content[at : at + 4] = b"\xff\xfe\xfd\xfc"
    path.write_bytes(content)
    with pytest.raises(CohortError, match=rf"(?s)001\.tar.*damaged.*byte {at}"):
        open_cohort(packed)


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_header_of_zeros_is_no_end(packed, blocks):
    """Whatever came after it was lost without a word."""
    path = packed / "shards/001.tar"
    content = bytearray(path.read_bytes())
    at = members.archive(path).members["0005.txt"].offset - tarfile.BLOCKSIZE
    content[at : at + blocks * tarfile.BLOCKSIZE] = bytes(blocks * tarfile.BLOCKSIZE)
    path.write_bytes(content)
    with pytest.raises(RecordError, match="the archive is damaged"):
        members.archive(path)


def test_compressed_shards_are_refused_with_the_way_to_fix(packed):
    path = packed / "shards/000.tar"
    (packed / "shards/000.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    for pattern in ("shards/*.tar.gz", "shards/000.tar.gz"):
        changed(packed, subjects={**TREE["subjects"], "table": pattern})
        with pytest.raises(CohortError, match=r"(?s)compressed.*gunzip"):
            open_cohort(packed)
    path.write_bytes(gzip.compress(path.read_bytes()))
    write(packed, TREE)
    with pytest.raises(CohortError, match=r"(?s)000\.tar.*compressed"):
        open_cohort(packed)


@pytest.mark.parametrize("name", ["../../etc/0000.png", "/etc/0000.png", "a/../0000.png"])
def test_names_that_lead_out_are_refused(packed, name):
    pack(packed / "shards/000.tar", [(name, picture(0))])
    with pytest.raises(CohortError, match=r"(?s)000\.tar.*leads out.*0000\.png"):
        open_cohort(packed)


def test_a_file_that_stands_twice_is_refused(packed):
    path = packed / "shards/000.tar"
    pack(path, [*sample(0), sample(0)[0]])
    with pytest.raises(CohortError, match=r"(?s)000\.tar.*twice.*0000\.png"):
        open_cohort(packed)
    pack(path, [*sample(0), ("0000.PNG", b"")])
    with pytest.raises(CohortError, match=r"(?s)called alike.*0000\.png and .*0000\.PNG"):
        open_cohort(packed)


def test_keys_that_stand_in_several_shards_are_told_and_members_tell_them_apart(packed):
    pack(packed / "shards/002.tar", [*sample(0, "held_out"), *sample(1, "held_out")])
    cohort, findings = load_cohort(packed)
    assert any("2 keys in more than one shard" in one.what for one in findings)
    assert any(one.level == "error" for one in findings)
    changed(packed, subjects={**TREE["subjects"], "id": "member"})
    cohort = open_cohort(packed)
    assert len(cohort.samples) == 10
    assert cohort.subjects["split"]["002/0000"] == "held_out"


def test_links_are_left_out_and_counted(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in [("k.png", tarfile.REGTYPE), ("l.png", tarfile.SYMTYPE)]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info, io.BytesIO())
    table = read_table(tmp_path, "a.tar")
    assert table.frame["key"].tolist() == ["k"]
    assert any("1 member" in note and "links" in note for note in table.notes)


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe"])
def test_fields_that_are_none_name_shard_and_member(packed, content):
    pack(packed / "shards/002.tar", [("k.png", picture(0)), ("k.json", content)])
    with pytest.raises(CohortError, match=r"002\.tar/k\.json"):
        open_cohort(packed)


def test_a_check_names_shard_and_member_of_a_corrupt_jpeg_and_an_empty_caption(packed):
    broken = [list(each) for each in samples()]
    broken[1][0] = ("0001.jpg", broken[1][0][1][:150])
    broken[2][1] = ("0002.txt", b" \n")
    broken[3][0] = ("0003.jpg", b"")
    pack(packed / "shards/000.tar", [one for each in broken[:4] for one in each])
    text = said(packed)
    assert "000.tar/0001.jpg: cannot be read as an image" in text
    assert "000.tar/0003.jpg: the file is empty" in text
    assert "0002/0002: the text is empty [text.empty]" in text
    assert "missing" not in text
    with pytest.raises(CohortError, match=r"(?s)0001\.jpg.*text is empty"):
        arrays(packed)
    changed(packed, on_bad_record="exclude")
    _, present, _ = arrays(packed)
    assert [int(one.sum()) for one in present.values()] == [8, 9]


def test_a_member_that_a_table_names_and_no_shard_has_is_missing(packed):
    modalities = {"image": {"reader": "image", "path": "shards/000.tar/{key}.png"}}
    changed(packed, modalities=modalities)
    text = said(packed)
    assert "000.tar/0001.png: there is no such file" in text
    assert "[image.missing_file]" in text
    cut(packed / "shards/000.tar", 1500)
    people = pd.DataFrame({"key": [f"k{n}" for n in range(3)], "side": "train", "cls": [0, 1, 0]})
    people.to_csv(packed / "people.csv", index=False)
    changed(packed, modalities=modalities, subjects={**TREE["subjects"], "table": "people.csv"})
    assert "cut short" in said(packed)


def test_readers_that_need_files_of_their_own_say_so(packed):
    for kind, reader in [("image", "nifti"), ("ecg", "wfdb")]:
        changed(packed, modalities={"one": {"kind": kind, "reader": reader, "path": "{image}"}})
        with pytest.raises(CohortError, match=rf"(?s)reader {reader} reads no files inside"):
            open_cohort(packed)


def test_an_empty_shard_and_other_files_are_refused(tmp_path):
    pack(tmp_path / "a.tar", [])
    with pytest.raises(CohortError, match="no shard holds a sample"):
        read_table(tmp_path, "a.tar")
    (tmp_path / "b.tar").write_bytes(b"no tar at all " * 100)
    with pytest.raises(CohortError, match="not a tar"):
        read_table(tmp_path, "b.tar")
    with pytest.raises(CohortError, match="no such file"):
        read_table(tmp_path, "none-*.tar")


# ------------------------------------------------------------------ written


def made(packed, out, per_shard=4, modalities=(), **sections):
    changed(packed, **sections)
    return write_shards(open_cohort(packed), out, per_shard, modalities)


def test_what_is_written_is_read_back_bit_for_bit(packed, tmp_path):
    done = made(packed, tmp_path / "new")
    one, other = open_cohort(packed), open_cohort(done.folder)
    assert (done.samples, done.shards) == (10, {"train": 2, "tuning": 1, "held_out": 1})
    assert not done.left_out
    order = np.argsort(other.samples["sample"].to_numpy(str))  # shards are read by their names
    assert other.samples.iloc[order].reset_index(drop=True).equals(one.samples)
    assert (other.targets("ill").values[order] == one.targets("ill").values).all()
    before, after = arrays(packed), arrays(done.folder)
    for name in INPUTS:
        assert (before[0][name] == after[0][name][order]).all()
        assert (before[1][name] == after[1][name][order]).all()
    assert before[2] == after[2]
    again = write_shards(other, tmp_path / "again", 4)
    for path in sorted((done.folder / "shards").iterdir()):
        assert path.read_bytes() == (again.folder / "shards" / path.name).read_bytes()


def test_shards_are_plain_tars_without_names_of_people_and_times(packed, tmp_path):
    done = made(packed, tmp_path / "new")
    with tarfile.open(done.folder / "shards/train-000001.tar") as tar:
        found = tar.getmembers()
        names = [one.name for one in found]
        assert names == [
            f"{n:09d}.{s}" for n, s in [(4, "json"), (4, "png"), (4, "txt"),
                                        (5, "jpg"), (5, "json"), (5, "txt")]
        ]  # fmt: skip
        assert {(one.mtime, one.uid, one.gid, one.uname, one.mode) for one in found} == {
            (0, 0, 0, "", 0o644)
        }
        assert tar.extractfile("000000005.jpg").read() == picture(5, "JPEG")
        assert tar.extractfile("000000005.txt").read() == b"caption 5 of train"
        assert json.load(tar.extractfile("000000005.json")) == {
            "sample": "0005", "subject": "0005", "split": "train", "target.ill": True,
        }  # fmt: skip


def hospital(folder):
    """Subjects with several records, records without partners, and a task of every kind."""
    folder.mkdir()
    generator = np.random.default_rng(3)
    people = pd.DataFrame(
        {
            "who": [f"s{n:02d}" for n in range(12)],
            "split": ["train"] * 6 + ["tuning"] * 3 + ["held_out"] * 3,
            "site": ["A", "B", None] * 4,
            "grade": [["low", "high", "1.5"][n % 3] for n in range(12)],
            "size": [None if n == 5 else n / 3 for n in range(12)],
            "days": generator.integers(1, 400, 12),
            "died": [n % 3 == 0 for n in range(12)],
            "left": [n % 3 == 1 for n in range(12)],
        }
    )
    views = pd.DataFrame(
        [
            {"who": f"s{n:02d}", "view": f"v{n}{k}", "af": n % 2, "mi": None if k else n % 3 == 1}
            for n in range(12)
            for k in range(1 + n % 2)
        ]
    )
    for view in views["view"]:
        (folder / f"{view}.front.png").write_bytes(picture(int(view[1:])))
        (folder / f"{view}.side.png").write_bytes(picture(1000 + int(view[1:])))
    words = views[["who", "view"]].assign(
        report=[f"Größe {n}\r\nnormal" for n in range(len(views))]
    )[1:]
    words.loc[len(words) + 5] = ["s00", "only words", "a letter of its own"]
    words.loc[3, "report"] = None
    people.to_csv(folder / "people.csv", index=False)
    views.to_csv(folder / "views.csv", index=False)
    words.to_csv(folder / "words.csv", index=False)
    image = {"reader": "image", "table": "views.csv", "record": "view"}
    tree = {
        "schema": "medmcl/cohort@1",
        "subjects": {"table": "people.csv", "id": "who", "split": "split", "group": "site"},
        "modalities": {
            "front": {**image, "path": "{view}.front.png", "orient": "stored"},
            "side": {**image, "path": "{view}.side.png", "present": "view != 'v70'"},
            "caption": {"reader": "text", "table": "words.csv", "record": "view",
                        "column": "report"},
            "clinic": {"reader": "table", "columns": {"size": "number"}},
        },
        "pairing": {"on": "record"},
        "tasks": {
            "grade": {"kind": "multiclass", "column": "grade", "classes": ["low", "1.5", "high"]},
            "size": {"kind": "regression", "column": "size * 2", "unit": "cm"},
            "both": {"kind": "multilabel", "of": "front", "columns": {"AF (x)": "af", "MI": "mi"}},
            "death": {"kind": "survival", "time": "days", "event": "died", "competing": "left",
                      "horizons_years": [0.25, 0.5]},
            "rich": {"kind": "binary", "of": "clinic", "column": "size > 2"},
        },
        "prompts": {"grade": {"low": "a low grade", "high": ["a high grade", "high"]}},
        "subgroups": {"site": "site"},
    }  # fmt: skip
    write(folder, tree)
    return folder


def test_every_kind_of_task_and_several_records_a_person_come_back(tmp_path):
    one = open_cohort(hospital(tmp_path / "one"))
    done = write_shards(one, tmp_path / "two", 5)
    two = open_cohort(done.folder)
    assert [said.split(":")[0].split(" (")[0] for said in done.left_out[:3]] == [
        "modality clinic", "task rich", "subgroups",
    ]  # fmt: skip
    names = ["front", "side", "caption"]
    old = one.samples[one.samples[names].notna().any(axis=1)].set_index("sample")
    new = two.samples.set_index("sample")
    assert sorted(new.index) == sorted(old.index)
    assert "caption:only words" in new.index
    position = pd.Series(np.arange(len(one.samples)), index=one.samples["sample"])
    rows_old = position[new.index].to_numpy().copy()
    assert new["subject"].equals(old["subject"][new.index])
    assert new["split"].equals(old["split"][new.index])
    groups = two.sites
    assert groups.fillna("-").to_dict() == one.sites.fillna("-")[groups.index].to_dict()
    for name in ("grade", "size", "both", "death"):
        before, after = one.targets(name).take(rows_old), two.targets(name)
        assert (before.known == after.known).all(), name
        assert (before.values == after.values).all(), name
        same = ("kind", "columns", "classes", "unit", "horizons_years", "modality")
        assert all(getattr(before, key) == getattr(after, key) for key in same), name
    assert (one.targets("death").competing[rows_old] == two.targets("death").competing).all()
    assert not one.targets("both").known.all()
    assert two.spec.keys.prompts == one.spec.keys.prompts
    inputs = {"front": {"size": 12}, "side": {"size": 12}, "caption": INPUTS["caption"]}
    x, y = (
        prepare(cohort, inputs, cache=tmp_path / "cache", splits="all") for cohort in (one, two)
    )
    x, y = x.batch(rows_old), y.batch(np.arange(len(two.samples)))
    for name in inputs:
        assert (x.present[name] == y.present[name]).all()
        assert (x.inputs[name] == y.inputs[name]).all()
        assert 0 < x.present[name].sum() < len(y.present[name])


def test_modalities_can_be_chosen_and_wrong_ones_are_told(packed, tmp_path):
    done = made(packed, tmp_path / "texts", modalities=["caption"])
    assert done.left_out == ["modality image (reader image)"]
    assert list(open_cohort(done.folder).records) == ["caption"]
    with pytest.raises(CohortError, match="did you mean 'image'"):
        made(packed, tmp_path / "no", modalities=["imag"])
    tables = {"clinic": {"reader": "table", "columns": ["age"]}}
    with pytest.raises(CohortError, match=r"(?s)images and texts only.*clinic \(reader table\)"):
        write_shards(open_cohort(changed(packed, modalities=tables)), tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_labels_that_differ_within_a_subject_are_refused(packed, tmp_path):
    rows = {
        "key": [f"{n:04d}" for n in range(10)],
        "taken": [f"2020-01-{n + 1:02d}" for n in range(10)],
    }
    pd.DataFrame(rows).to_csv(packed / "dates.csv", index=False)
    people = pd.DataFrame({"who": list("abc"), "split": ["train", "train", "held_out"]})
    people.assign(end="2021-01-01", hf=["2020-06-01", None, "2020-07-01"]).to_csv(
        packed / "people.csv", index=False
    )
    owners = pd.DataFrame({"key": rows["key"], "who": ["a"] * 4 + ["b"] * 4 + ["c"] * 2})
    owners.to_csv(packed / "owners.csv", index=False)
    joins = [{"table": f"{name}.csv", "on": "key"} for name in ("dates", "owners")]
    changed(
        packed,
        subjects={"table": "people.csv", "id": "who", "split": "split"},
        modalities={
            "image": {"reader": "image", "table": "shards/*.tar", "join": joins, "id": "who",
                      "record": "key", "date": "taken", "path": "{image}"}
        },
        index={"modality": "image"},
        tasks={"hf": {"kind": "survival", "event_date": "hf", "censor_date": "end"}},
    )  # fmt: skip
    with pytest.raises(CohortError, match=r"(?s)hf, subject a.*differ from sample to sample"):
        write_shards(open_cohort(packed), tmp_path / "new")
    done = write_shards(open_cohort(packed, {"tasks.hf": None}), tmp_path / "new")
    assert done.samples == 10


def test_nothing_is_left_behind_where_a_file_is_missing(packed, tmp_path):
    changed(packed, modalities={"image": {"reader": "image", "path": "lost/{key}.png"}})
    with pytest.raises(RecordError, match=r"lost/0000\.png"):
        write_shards(open_cohort(packed), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    lost = {**TREE["modalities"], "image": {"reader": "image", "path": "{png}"}}
    changed(packed, modalities=lost, on_bad_record="exclude")
    cohort = open_cohort(packed)
    (packed / "shards/002.tar").unlink()
    done = write_shards(cohort, tmp_path / "new")
    assert done.left_out == ["3 records that cannot be read"]
    assert open_cohort(tmp_path / "new").samples["caption"].notna().sum() == 8
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    write(packed, TREE)
    with pytest.raises(CohortError, match="not empty"):
        write_shards(open_cohort(packed), tmp_path / "full")


RECIPE = """
schema: medmcl/recipe@1
inputs:
  image: {size: 16}
  caption: {max_tokens: 12, tokeniser: bpe, vocabulary: 300}
towers:
  image: {encoder: {name: small_cnn, widths: [4, 8]}, head: {hidden: 8, out: 8}}
  caption:
    encoder: {name: text_transformer, width: 8, depth: 1, heads: 2}
    head: {hidden: 8, out: 8}
stages:
  - stage: train
    name: contrast
    objectives: {cross_modal: {pairs: [[image, caption]], loss: info_nce, view: plain}}
    batch_size: 4
    steps: 2
"""


def test_pretrain_runs_on_shards_and_never_on_an_empty_caption(packed, tmp_path):
    recipe = tmp_path / "pair.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    broken = [list(each) for each in samples()[:4]]
    broken[2][1] = ("0002.txt", b" \n")
    broken[3].pop(1)  # no caption at all: absent, and counted as such
    pack(packed / "shards/000.tar", [one for each in broken for one in each])
    with pytest.raises(CohortError, match="the text is empty"):
        medmcl.pretrain(packed, recipe=recipe, out=tmp_path / "no")
    changed(packed, on_bad_record="exclude")
    run = unreported(packed, recipe=recipe, out=tmp_path / "run")
    train = run.embed(packed, modality="caption").iloc[:5]
    assert train["quality"].eq("ok").tolist() == [True, True, False, True, True]
    assert "1 of 9 left out, 1 subject without" in str(medmcl.check(packed).overview)


def test_the_command_says_what_it_wrote(packed, tmp_path, capsys):
    out = tmp_path / "new"
    options = ("--per-shard", 5, "--modality", "image")
    code = typed("shards", "--cohort", packed, "--out", out, *options)
    said = capsys.readouterr().out
    assert code == 0, said
    assert "not written: modality caption (reader text)" in said
    assert "(10 samples; shards: 2 train, 1 tuning, 1 held_out)" in said
    assert set(open_cohort(out).subjects.index) == {f"{n:04d}" for n in range(10)}
