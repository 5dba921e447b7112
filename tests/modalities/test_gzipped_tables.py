"""Every csv that is read may be gzipped: what is read is the same."""

import gzip
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.faults.formats import Recorded, _listed, _read_events, _read_vectors, formats
from medmcl.cooccurrence.embed.relations import read_columns
from medmcl.stages.predict.one_person import _one_row

READS = {
    "csv of an ECG": {"path": "a.csv.gz"},
    "graph .csv": {"path": "a.csv.gz"},
    "edge list": {"path": "a.csv.gz"},
    "dosages": {"dosages": "d.csv.gz", "variants": "v.csv.gz"},
    "table .csv": _listed("people.csv.gz"),
    "table .tsv": _listed("people.tsv.gz"),
    "events .csv": _read_events("e.csv.gz"),
    "vectors .csv": _read_vectors("v.csv.gz"),
}


def plain_of(form, name):
    return _listed(name.replace("table .", "people.")) if name.startswith("table") else form.read


@pytest.mark.parametrize("name", READS)
def test_a_gzipped_table_is_read_as_the_plain_one(tmp_path, name):
    form, how = formats()[name], READS[name]
    form.write(tmp_path)
    plain = plain_of(form, name)(tmp_path)
    for path in [*tmp_path.glob("*.csv"), *tmp_path.glob("*.tsv")]:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    if isinstance(how, dict):
        assert isinstance(form.read, Recorded)
        del form.read.adapter
        how = replace(form.read, paths=how)
    np.testing.assert_array_equal(how(tmp_path), plain)


@pytest.mark.parametrize(("ending", "mark"), [("csv", ","), ("tsv", "\t")])
def test_tables_of_relations_and_of_one_person(tmp_path, ending, mark):
    path = tmp_path / f"a.{ending}.gz"
    path.write_bytes(gzip.compress(f"left{mark}right\nA{mark}B\n".encode()))
    assert read_columns(path, ["left", "right"], "").to_numpy().tolist() == [["A", "B"]]
    assert _one_row("clinic", path, {"left": "category"}) == {"left": "A"}
