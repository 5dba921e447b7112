"""Filesets of PLINK 2, written by pgenlib itself."""

import sys

import numpy as np
import pyarrow as pa
import pytest
import small_genomes
from small_genomes import PVAR, genomes, variant_table, write_plink

from medmcl.core.errors import ExtraNotInstalledError, RecordError
from medmcl.modalities.genetics import pgen
from medmcl.modalities.genetics.files import open_fileset

NAMES = [f"s{n}" for n in range(11)]


def write_pgen(*args, **more):
    pytest.importorskip("pgenlib", reason="needs the extra [plink]")
    return small_genomes.write_pgen(*args, **more)


@pytest.fixture
def fileset(tmp_path):
    genotypes, _, _ = genomes(people=11, variants=7, missing=0.2)
    dosages = genotypes.astype(np.float32)
    dosages[0, 0], dosages[3, 5] = 0.25, 1.75
    return write_pgen(tmp_path / "g", dosages, variant_table(7), NAMES), dosages


def matrix(files):
    rows = [files.row(number) for number in range(len(files.individuals))]
    return np.stack([np.where(called, dosage, -1) for dosage, called in rows])


def test_dosages_calls_and_alleles_are_read(fileset, monkeypatch):
    path, dosages = fileset
    files = open_fileset("pgen", {"path": path})
    assert np.abs(matrix(files) - dosages).max() < 1e-4  # they are stored in 1/32768
    assert list(files.individuals) == NAMES
    assert files.variants.ids == tuple(f"rs{n}" for n in range(7))
    monkeypatch.setattr(pgen, "BLOCK_BYTES", 4 * 7 * 3)  # three people at a time, in any order
    few = pgen.Pgen(pgen.pgen_files({"path": path.with_suffix("")}))
    for number in (10, 0, 7, 3, 10):
        assert np.array_equal(few.row(number)[0], files.row(number)[0])


def test_it_is_what_the_same_people_are_in_a_bed(fileset, tmp_path):
    genotypes, _, _ = genomes(people=11, variants=7, missing=0.2)
    bed = open_fileset("plink", {"path": write_plink(tmp_path / "b", genotypes, variant_table(7),
                                                     NAMES)})  # fmt: skip
    two = open_fileset("pgen", {"path": write_pgen(tmp_path / "p", genotypes, variant_table(7),
                                                   NAMES)})  # fmt: skip
    assert np.array_equal(matrix(bed), matrix(two))
    assert bed.variants.key == two.variants.key


def test_packed_variants_bare_columns_and_named_parts_are_read(fileset, tmp_path):
    path, dosages = fileset
    whole = open_fileset("pgen", {"path": path}).variants
    pvar = path.with_suffix(".pvar")
    with pa.output_stream(f"{pvar}.zst", compression="zstd") as file:
        file.write(pvar.read_bytes())
    parts = {"pgen": path, "pvar": pvar.with_name("g.pvar.zst"), "psam": path.with_suffix(".psam")}
    assert open_fileset("pgen", parts).variants.key == whole.key
    pvar.unlink()
    assert open_fileset("pgen", {"path": path}).variants.key == whole.key
    bare = write_pgen(tmp_path / "bare", dosages, variant_table(7), NAMES, header=False)
    files = open_fileset("pgen", {"path": bare}, "fid_iid")
    assert files.variants.key == whole.key
    assert list(files.individuals)[:2] == ["f0_s0", "f1_s1"]


def change(ending, old, new):
    def damage(path):
        file = path.with_suffix(ending)
        file.write_text(file.read_text().replace(old, new, 1))

    return damage


def cut(path):
    path.write_bytes(path.read_bytes()[:-6])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "cannot be read as .pgen"),
        (lambda path: path.write_bytes(b"PK" * 40), "cannot be read as .pgen"),
        (change(".psam", "f10\ts10\tNA\n", ""), "cannot be read as .pgen"),
        (change(".pvar", "\trs6\t", "\trs6"), "variant 7 has 5 fields"),
        (change(".pvar", "ALT", "OTHER"), "no column 'ALT'"),
        (change(".pvar", "2000", "two"), "no whole number"),
        (change(".psam", "s3", "s2"), "same name"),
        (change(".psam", "IID", "NAME"), "no column 'IID'"),
        (lambda path: path.with_suffix(".psam").write_bytes(b"\xff\xfe"), "is no text"),
        (lambda path: path.with_suffix(".pvar").write_text(PVAR), "is empty"),
        (lambda path: path.with_suffix(".pvar").unlink(), "no such file"),
    ],
)  # fmt: skip
def test_a_damaged_fileset_says_what_is_wrong(fileset, damage, said):
    path, _ = fileset
    damage(path)
    with pytest.raises(RecordError, match=said):
        open_fileset("pgen", {"path": path}).row(0)


def test_several_alternatives_at_a_place_are_refused(fileset):
    path, _ = fileset
    pvar = path.with_suffix(".pvar")
    first = pvar.read_text().splitlines()[2].split("\t")
    changed = "\t".join([*first[:4], f"{first[4]},TT", first[5]])
    pvar.write_text(pvar.read_text().replace("\t".join(first), changed))
    with pytest.raises(RecordError, match="more than two alleles") as refused:
        open_fileset("pgen", {"path": path})
    assert "--max-alleles 2" in refused.value.fix


def test_the_extra_is_named(fileset, monkeypatch):
    path, _ = fileset
    monkeypatch.setitem(sys.modules, "pgenlib", None)
    with pytest.raises(ExtraNotInstalledError, match=r"medmcl\[plink\]"):
        pgen.Pgen(pgen.pgen_files({"path": path}))
