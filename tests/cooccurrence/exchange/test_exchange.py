"""Counts survive the folder exactly, and a manifest that lies is refused by name."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import sparse
from small_counts import edit, numbers, some_counts

from medmcl.cooccurrence.count.counts import Block, Margin, Vocabulary
from medmcl.cooccurrence.exchange.folder import load_counts, read_manifest, save_counts
from medmcl.cooccurrence.exchange.tables import sha256_of
from medmcl.core.errors import ArtefactError


@pytest.fixture
def folder(tmp_path):
    return save_counts(some_counts(), tmp_path / "site")


def forge(folder, name, change):
    """Change a table, and let the manifest agree with its checksum and its sums."""
    path = folder / name
    changed = typed_whole(change(pq.read_table(path).to_pydict()))
    pq.write_table(changed, path)
    table = changed.to_pydict()

    def agree(values):
        for block in values["blocks"]:
            if block["file"] == name:
                block["sha256"] = sha256_of(path)
                block["cells"] = len(table["i"])
                block["pairs"] = sum(map(int, table["pairs"]))
        if name == "vocabulary.parquet":
            values["vocabulary"]["sha256"] = sha256_of(path)
            for one in values["modalities"]:
                rows = [k for k, m in enumerate(table["modality"]) if m == one["name"]]
                one["tokens"] = sum(table["tokens"][k] for k in rows)
                one["pairs"] = sum(table["pairs"][k] for k in rows)

    edit(folder, agree)


@pytest.mark.parametrize("patients", [True, False])
@pytest.mark.parametrize("within", [True, False])
def test_what_was_saved_is_loaded(tmp_path, within, patients):
    counts = some_counts(within=within, patients=patients)
    assert numbers(load_counts(save_counts(counts, tmp_path / "a"))) == numbers(counts)


def test_counts_beyond_two_to_the_53_are_exact(tmp_path):
    large = 2**62 - 1
    counts = some_counts(within=False, patients=False)
    pairs = sparse.csr_array(np.full(counts.D.shape, large))
    counts = replace(counts, blocks={("codes", "concepts"): Block(pairs)})
    folder = save_counts(counts, tmp_path / "a")
    assert (load_counts(folder).D.toarray() == large).all()
    assert read_manifest(folder).blocks[0].pairs == large * 30  # beyond int64


def test_long_and_strange_codes_survive(tmp_path):
    counts = some_counts(d1=4)
    codes = ("x" * 10_000, "two\nlines, and a comma", "µ/北", "")
    words = {**counts.vocabularies, "codes": Vocabulary(codes, "v")}
    loaded = load_counts(save_counts(replace(counts, vocabularies=words), tmp_path / "a"))
    assert loaded.vocabularies["codes"].tokens == codes


def test_no_cell_and_no_token_survive_too(tmp_path):
    for name, counts in (("cells", some_counts(rate=0.0)), ("tokens", some_counts(d1=0))):
        folder = save_counts(counts, tmp_path / name)
        assert numbers(load_counts(folder)) == numbers(counts)


def test_an_interrupted_write_leaves_nothing(tmp_path):
    counts = some_counts(within=False)
    lopsided = Block(counts.D, sparse.csr_array(counts.D.shape, dtype=np.int64))
    with pytest.raises(ArtefactError, match="different cells"):
        save_counts(replace(counts, blocks={("codes", "concepts"): lopsided}), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_used_folder_is_not_overwritten(folder):
    with pytest.raises(ArtefactError, match="new folder"):
        save_counts(some_counts(1), folder)


@pytest.mark.parametrize("name", ["vocabulary.parquet", "cells_0_1.parquet", "cells_1_1.parquet"])
def test_a_file_cut_short_is_named(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ArtefactError, match=rf"{name}.*not the file"):
        load_counts(folder)
    path.unlink()
    with pytest.raises(ArtefactError, match=rf"{name}.*not there"):
        load_counts(folder)


def put(table, column, row, value):
    table[column][row] = value
    return table


def typed(table, column, kind):
    columns = {name: pa.array(values) for name, values in table.items()}
    columns[column] = columns[column].cast(kind)
    return pa.table(columns)


CELLS = "cells_0_1.parquet"
LIES = [
    (CELLS, lambda t: put(t, "i", 0, 6), "'i' lies outside the vocabulary"),
    (CELLS, lambda t: put(t, "j", 3, -1), "'j' lies outside the vocabulary"),
    (CELLS, lambda t: put(t, "pairs", 3, -4), "fewer than none"),
    (CELLS, lambda t: put(t, "pairs", 3, 0), "holds no pair"),
    (CELLS, lambda t: put(t, "patients", 3, t["pairs"][3] + 1), "more patients than pairs"),
    (CELLS, lambda t: put(t, "patients", 3, 0), "of no patient"),
    (CELLS, lambda t: put(t, "patients", 3, None), "'patients' is empty in 1 of"),
    (CELLS, lambda t: {k: [*v, v[0]] for k, v in t.items()}, "cells stand twice"),
    (CELLS, lambda t: typed(t, "pairs", pa.float64()), "no whole numbers"),
    (CELLS, lambda t: put(t, "pairs", 0, 2.5), "no whole numbers"),
    (CELLS, lambda t: {k: v for k, v in t.items() if k != "j"} | {"subject": t["j"]}, "columns"),
    ("cells_0_0.parquet", lambda t: put(t, "pairs", 1, t["pairs"][1] + 1), "not symmetric"),
    ("cells_0_0.parquet", lambda t: put(t, "pairs", 0, t["pairs"][0] + 1), "add up to the margin"),
    ("vocabulary.parquet", lambda t: put(t, "pairs", 0, t["pairs"][0] + 1), "add up to the margin"),
    ("vocabulary.parquet", lambda t: put(t, "index", 1, 0), "indices of codes"),
    ("vocabulary.parquet", lambda t: put(t, "code", 1, t["code"][0]), "names a token twice"),
    ("vocabulary.parquet", lambda t: put(t, "modality", 0, "labs"), "does not name"),
    ("vocabulary.parquet", lambda t: put(t, "tokens", 0, -1), "fewer than 0 times"),
    ("vocabulary.parquet", lambda t: put(t, "tokens", 0, 1), "more patients than occurrences"),
    ("vocabulary.parquet", lambda t: put(t, "patients", 0, 61), "more patients than"),
    ("vocabulary.parquet", lambda t: put(t, "patients", 0, 2), "more patients than its codes"),
    ("vocabulary.parquet", lambda t: put(t, "patients", 0, 0), "occurs in no patient"),
    ("vocabulary.parquet", lambda t: put(t, "most", 0, 0), "can have so many"),
    ("vocabulary.parquet", lambda t: put(t, "most", 0, 999), "can have so many"),
    ("vocabulary.parquet", lambda t: put(t, "most", 0, -1), "can have so many"),
    ("vocabulary.parquet", lambda t: put(t, "most", 0, None), "'most' is empty in 1 of"),
    ("vocabulary.parquet", lambda t: put(t, "most", 0, 1.5), "no whole numbers"),
]


@pytest.mark.parametrize(("name", "change", "said"), LIES, ids=[said for _, _, said in LIES])
def test_numbers_that_no_counting_gives_are_refused(folder, name, change, said):
    forge(folder, name, change)
    with pytest.raises(ArtefactError, match=said):
        load_counts(folder)


def typed_whole(table):
    """Columns as the format wants them, unless they cannot be."""
    if isinstance(table, pa.Table):
        return table
    kinds = {"code": pa.string(), "modality": pa.string()}
    columns = {}
    for name, values in table.items():
        fraction = any(isinstance(value, float) for value in values)
        columns[name] = pa.array(values, None if fraction else kinds.get(name, pa.int64()))
    schema = pa.schema(
        [pa.field(n, c.type, nullable=bool(c.null_count) or n == "patients")
         for n, c in columns.items()]
    )  # fmt: skip
    return pa.Table.from_arrays(list(columns.values()), schema=schema)


MANIFESTS = [
    (lambda m: m["blocks"][0].update(pairs=m["blocks"][0]["pairs"] + 1), "truth about: pairs"),
    (lambda m: m["blocks"][0].update(cells=3), "truth about: cells"),
    (lambda m: m["blocks"][0].update(patients_counted=False), "truth about: patients counted"),
    (lambda m: m["modalities"][1].update(tokens=1), "tokens of concepts do not add up"),
    (lambda m: m["modalities"][0].update(pairs=1), "pairs of codes do not add up"),
    (lambda m: m["modalities"][0].update(size=7), "indices of codes"),
    (lambda m: m["blocks"][0].update(second="labs"), "modality that is not there"),
    (lambda m: m["blocks"].append(m["blocks"][0]), "stands twice"),
    (lambda m: m.update(patients=3, units=3), "more patients than there are"),
    (lambda m: m.update(patients=300), "do not go together"),
    (lambda m: m.update(patients=59), "do not go together"),
    (lambda m: m.update(patients=61, window="month"), "no more patients than units"),
    (lambda m: m.update(patients=-3), "'patients'"),
    (lambda m: m.update(patients=2.5), "'patients'"),
    (lambda m: m["vocabulary"].update(file="../../etc/passwd"), "'vocabulary.file'"),
    (lambda m: m["blocks"][0].update(file="/tmp/x.parquet"), "file'"),
    (lambda m: m.update(epsilon=1), "unknown key 'epsilon'"),
    (lambda m: m.pop("window"), "'window' is missing"),
    (lambda m: m.update(window="fortnight"), "unknown window 'fortnight'"),
    (lambda m: m.update(pairing="triples"), "'pairing' must be 'product' or 'distinct'"),
    (lambda m: m["blocks"][0].update(pairs_per_patient=0.5), "pairs_per_patient'"),
    (lambda m: m["blocks"][0].update(pairs_per_patient=float("inf")), "pairs_per_patient'"),
    (lambda m: m.update(sites=0), "'sites'"),
    (lambda m: m.update(noise_sd=float("nan")), "'noise_sd'"),
    (lambda m: m.update(min_patients=1), "'min_patients'"),
    (lambda m: m.update(schema="medmcl/cooccurrence@2"), "medmcl/cooccurrence@1"),
    (lambda m: m.update(release={"mode": "threshold", "min_patients": 11, "public_vocabulary": True,
                                 "sites": 1}), "truth about: threshold"),
    (lambda m: m.update(min_patients=11, release={
        "mode": "threshold", "min_patients": 11, "public_vocabulary": True, "sites": 1}),
     "nothing beside its cells"),
    (lambda m: m.update(min_patients=11), "no release, and cells suppressed"),
    (lambda m: m.update(units=None, patients=None), "no release, and units withheld"),
    (lambda m: m.update(nested=["labs"]), "truth about: nested"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), MANIFESTS, ids=[said for _, said in MANIFESTS])
def test_a_manifest_that_lies_is_refused(folder, change, said):
    edit(folder, change)
    with pytest.raises(ArtefactError, match=said):
        load_counts(folder)


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    with pytest.raises(ArtefactError, match="unknown window 'fortnight'"):
        save_counts(replace(some_counts(), window="fortnight"), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_manifest_and_one_that_is_no_json(tmp_path):
    with pytest.raises(ArtefactError, match="no counts here"):
        load_counts(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ArtefactError, match="is no JSON"):
        load_counts(tmp_path)


def test_margins_and_vocabularies_must_fit(folder):
    counts = load_counts(folder)
    margin = counts.margins["codes"]
    wrong = Margin(margin.tokens * 0, margin.pairs, None)
    other = save_counts(
        replace(counts, margins={**counts.margins, "codes": wrong}), folder.parent / "other"
    )
    with pytest.raises(ArtefactError, match="cells of codes that never occur"):
        load_counts(other)
