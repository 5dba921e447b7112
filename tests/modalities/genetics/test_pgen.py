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
from medmcl.modalities.genetics.together import several_alleles
from medmcl.modalities.genetics.variants import Genotypes

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


def test_variants_of_several_alternatives_are_left_out(fileset, tmp_path):
    pgenlib = pytest.importorskip("pgenlib", reason="needs the extra [plink]")
    path, _ = fileset
    calls = np.random.default_rng(1).integers(0, 2, size=(7, 22)).astype(np.int32)
    calls[2, :4], calls[5, -6:] = [2, 0, 1, 2], [2, 2, 0, 1, 0, 0]
    with pgenlib.PgenWriter(bytes(path), 11, 7, False, allele_ct_limit=3) as file:
        for number, row in enumerate(calls):
            file.append_alleles(row, False, 3 if number in {2, 5} else 2)
    pvar = path.with_suffix(".pvar")
    lines = pvar.read_text().splitlines(keepends=True)
    ahead = next(number for number, line in enumerate(lines) if line.startswith("#CHROM")) + 1
    alt = lines[ahead - 1].lstrip("#").split().index("ALT")
    for number in (2, 5):
        cells = lines[ahead + number].split("\t")
        cells[alt] = cells[alt].strip() + ",TT" + ("\n" if cells[alt].endswith("\n") else "")
        lines[ahead + number] = "\t".join(cells)
    pvar.write_text("".join(lines))
    files = open_fileset("pgen", {"path": path})
    assert files.variants.ids == ("rs0", "rs1", "rs3", "rs4", "rs6")
    raws = [Genotypes(*files.row(number), files.variants) for number in range(2)]
    assert ["2 of 7" in one.what for one in several_alleles(raws)] == [True]
    counted = calls.reshape(7, 11, 2).sum(axis=2).T
    assert np.array_equal(matrix(files), counted[:, [0, 1, 3, 4, 6]])
    pvar.write_text("".join([*lines[:ahead], lines[ahead + 2]]))
    with pytest.raises(RecordError, match="every variant has more than two alleles"):
        pgen.read_pvar(pvar)


def test_the_extra_is_named(fileset, monkeypatch):
    path, _ = fileset
    monkeypatch.setitem(sys.modules, "pgenlib", None)
    with pytest.raises(ExtraNotInstalledError, match=r"medmcl\[plink\]"):
        pgen.Pgen(pgen.pgen_files({"path": path}))
