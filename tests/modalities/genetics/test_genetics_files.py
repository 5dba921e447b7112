"""Readers of genotypes: every byte of a .bed, and everything that may be wrong with a fileset."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_genomes import genomes, variant_table, write_plink

from medmcl.core.errors import RecordError
from medmcl.modalities.genetics import files as genetics_plink
from medmcl.modalities.genetics.files import Dosages, Plink, open_fileset, plink_files, read_fam
from medmcl.modalities.genetics.variants import (
    Genotypes,
    align,
    compare_frequencies,
    complement,
    make_variants,
    match_alleles,
)

NAMES = [f"s{n}" for n in range(11)]
TOY = Path(os.environ.get("MEDMCL_DATA", "none")) / "plink" / "toydata.5chrom.bed"


def matrix(files):
    rows = [files.row(number) for number in range(len(files.individuals))]
    return np.stack([np.where(called, dosage, -1) for dosage, called in rows])


@pytest.fixture
def bed(tmp_path):
    genotypes, _, _ = genomes(people=11, variants=7, missing=0.2)
    return write_plink(tmp_path / "g", genotypes, variant_table(7), NAMES), genotypes


def test_every_genotype_is_read_whatever_the_number_of_people(tmp_path):
    for people in (1, 3, 4, 5, 8, 13):
        genotypes, _, _ = genomes(people=people, variants=6, missing=0.3, seed=people)
        names = [f"p{n}" for n in range(people)]
        path = write_plink(tmp_path / f"g{people}", genotypes, variant_table(6), names)
        files = Plink(plink_files({"path": path}))
        assert (matrix(files) == genotypes).all()
        assert list(files.individuals) == names
    assert files.variants.ids == tuple(f"rs{n}" for n in range(6))
    assert files.variants.counted[:2] == ("A", "C")
    assert files.variants.positions.tolist() == [1000, 2000, 3000] * 2


def test_bits_lie_as_the_format_says(tmp_path):
    """By hand: two copies of the first allele are 00, one 10, none 11, no call 01."""
    (tmp_path / "g.bed").write_bytes(b"\x6c\x1b\x01" + bytes([0b01_11_10_00]))
    (tmp_path / "g.bim").write_text("chr1 rs1 0 5 a g\n")
    (tmp_path / "g.fam").write_text("".join(f"f{n} i{n} 0 0 0 -9\n" for n in range(4)))
    files = Plink(plink_files({"path": tmp_path / "g.bed"}), "fid_iid")
    assert matrix(files)[:, 0].tolist() == [2, 1, 0, -1]
    assert list(files.individuals) == ["f0_i0", "f1_i1", "f2_i2", "f3_i3"]
    assert (files.variants.chromosomes, files.variants.counted) == (("1",), ("A",))


def test_blocks_of_people_give_the_same_in_any_order(bed, monkeypatch):
    path, genotypes = bed
    monkeypatch.setattr(genetics_plink, "BLOCK_BYTES", 7)  # one byte column at a time
    files = Plink(plink_files({"path": path}))
    for number in (10, 0, 7, 3, 10, 4):
        dosage, called = files.row(number)
        assert (np.where(called, dosage, -1) == genotypes[number]).all()


@pytest.mark.skipif(not TOY.is_file(), reason="needs MEDMCL_DATA with plink/toydata.5chrom")
def test_a_published_fileset_is_read_as_bed_reader_reads_it():
    files = Plink(plink_files({"path": TOY}))
    found = matrix(files)
    assert found.shape == (500, 10_000)
    assert set(files.variants.chromosomes) == {"1", "2", "3", "4", "5"}
    bed_reader = pytest.importorskip("bed_reader", reason="bed-reader, an oracle, is not installed")
    known = bed_reader.open_bed(TOY).read(dtype="int8", num_threads=1)
    assert (np.where(known == -127, -1, known) == found).all()


def write(suffix, change):
    """A fault of the text file beside the .bed."""
    return lambda path: path.with_suffix(suffix).write_text(
        change(path.with_suffix(suffix).read_text())
    )


def bytes_of(change):
    """A fault of the .bed."""
    return lambda path: path.write_bytes(change(path.read_bytes()))


FAULTS = {
    "magic": bytes_of(lambda whole: b"PK" + whole[2:]),
    "order": bytes_of(lambda whole: whole[:2] + b"\x00" + whole[3:]),
    "cut": bytes_of(lambda whole: whole[:-1]),
    "head": bytes_of(lambda whole: whole[:2]),
    "long": bytes_of(lambda whole: whole + b"\x00"),
    "fam short": write(".fam", lambda text: "\n".join(text.splitlines()[:8]) + "\n"),
    "fam twice": write(".fam", lambda text: text.replace("s3 s3", "x s2")),
    "bim field": write(".bim", lambda text: text.replace("\t2000\t", "\t")),
    "bim position": write(".bim", lambda text: text.replace("\t2000\t", "\ttwo\t", 1)),
    "bim empty": write(".bim", lambda text: "\n"),
    "bim bytes": lambda path: path.with_suffix(".bim").write_bytes(b"\xff\xfe"),
    "fam": lambda path: path.with_suffix(".fam").unlink(),
}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("magic", "no PLINK 1 .bed"),
        ("order", "variant-major"),
        ("cut", "is truncated\n.*23 bytes\n.*24 bytes: 3 \\+ 7 variants x 3 bytes for 11 people"),
        ("head", "variant-major"),
        ("long", "longer than .bim and .fam say"),
        ("fam short", "longer than"),
        ("fam twice", "same name\n.*s2\n.*fid_iid"),
        ("bim field", "line 2: a line has 5 fields"),
        ("bim position", "line 2: the position is no whole number"),
        ("bim empty", "is empty"),
        ("bim bytes", "is no text"),
        ("fam", "no such file"),
    ],
)
def test_a_damaged_fileset_says_what_is_wrong(bed, fault, said):
    path, _ = bed
    FAULTS[fault](path)
    with pytest.raises(RecordError, match=said):
        open_fileset("plink", {"path": path})


def test_people_of_one_name_are_told_apart_by_family(tmp_path):
    (tmp_path / "g.fam").write_text("f1 1 0 0 0 -9\nf2 1 0 0 0 -9\n")
    assert read_fam(tmp_path / "g.fam", "fid_iid") == {"f1_1": 0, "f2_1": 1}


def test_a_file_that_changes_is_opened_anew(bed):
    path, genotypes = bed
    assert (matrix(open_fileset("plink", {"path": path})) == genotypes).all()
    assert open_fileset("plink", {"path": path}) is open_fileset("plink", {"path": path})
    other = np.where(genotypes < 0, -1, 2 - genotypes)
    write_plink(path.with_suffix(""), other, variant_table(7), NAMES)
    os.utime(path, ns=(1, 1))
    assert (matrix(open_fileset("plink", {"path": path})) == other).all()


def test_paths_are_taken_with_and_without_suffix_or_part_by_part(tmp_path):
    expected = {name: tmp_path / f"chr1.v2.{name}" for name in ("bed", "bim", "fam")}
    assert plink_files({"path": tmp_path / "chr1.v2.bed"}) == expected
    assert plink_files({"path": tmp_path / "chr1.v2"}) == expected
    assert plink_files(expected) == expected
    with pytest.raises(RecordError, match="no bim and no fam"):
        plink_files({"bed": tmp_path / "a.bed"})


def tables(folder, dosage, names, suffix=".csv", **changes):
    frame = pd.DataFrame(dosage, columns=[f"rs{n}" for n in range(dosage.shape[1])])
    frame.insert(0, "iid", names)
    info = variant_table(dosage.shape[1]).assign(**changes)
    path = folder / f"dosages{suffix}"
    frame.to_parquet(path) if suffix == ".parquet" else frame.to_csv(path, index=False)
    info.to_csv(folder / "variants.csv", index=False)
    return {"dosages": path, "variants": folder / "variants.csv"}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_dosage_tables_keep_fractions_and_absent_calls(tmp_path, suffix):
    dosage = np.array([[0.0, 1.25, 2.0], [np.nan, 0.5, 1.9999]])
    files = Dosages(tables(tmp_path, dosage, [7, 8], suffix, chromosome=["chr1", "X", "2"]))
    assert list(files.individuals) == ["7", "8"]
    values, called = files.row(1)
    assert called.tolist() == [False, True, True]
    np.testing.assert_allclose(values, [0, 0.5, 1.9999], atol=1e-6)
    assert files.variants.chromosomes == ("1", "X", "2")


def test_damaged_dosage_tables_say_what_is_wrong(tmp_path):
    dosage = np.array([[0.0, 1.0], [2.0, 1.0]])
    files = tables(tmp_path, np.where(dosage == 2, 9, dosage), ["a", "b"])
    with pytest.raises(RecordError, match=r"1 dosages lie outside 0 to 2\n.*9.0"):
        Dosages(files)
    with pytest.raises(RecordError, match="row 2, column 'rs0'"):
        Dosages(files)
    with pytest.raises(RecordError, match="two people have the same name"):
        Dosages(tables(tmp_path, dosage, ["a", "a"]))
    with pytest.raises(RecordError, match=r"1 of 2 variants have no column.*'rs9'"):
        Dosages(tables(tmp_path, dosage, ["a", "b"], id=["rs0", "rs9"]))
    with pytest.raises(RecordError, match="1 variants have no id or no alleles"):
        Dosages(tables(tmp_path, dosage, ["a", "b"], other=["G", None]))
    files = tables(tmp_path, dosage, ["a", "b"])
    info = pd.read_csv(files["variants"]).rename(columns={"counted": "A1"})
    info.to_csv(files["variants"], index=False)
    with pytest.raises(RecordError, match="no column 'counted'"):
        Dosages(files)
    files["dosages"].write_text("iid,rs0,rs1\na,AG,1\n")
    tables_info = variant_table(2)
    tables_info.to_csv(files["variants"], index=False)
    with pytest.raises(RecordError, match="column 'rs0' holds what is no number"):
        Dosages(files)
    with pytest.raises(RecordError, match="the path has no variants"):
        open_fileset("dosages", {"dosages": files["dosages"]})
    broken = tmp_path / "d.parquet"
    broken.write_bytes(b"no table")
    with pytest.raises(RecordError, match="cannot be read as a table"):
        Dosages({"dosages": broken, "variants": files["variants"]})


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (("A", "G"), (False, False)),
        (("G", "A"), (True, False)),
        (("T", "C"), (False, True)),
        (("C", "T"), (True, True)),
        (("A", "C"), None),
        (("A", "T"), None),
        (("0", "G"), (False, False)),  # nobody has A
        (("0", "A"), (True, False)),  # nobody has G
        (("0", "C"), (False, True)),
        (("0", "T"), (True, True)),
        (("0", "0"), None),
        (("L", "H"), None),
    ],
)
def test_alleles_are_matched(given, found):
    assert match_alleles(given, ("A", "G")) == found


def test_ambiguous_pairs_count_as_the_same_strand():
    assert match_alleles(("A", "T"), ("A", "T")) == (False, False)
    assert match_alleles(("T", "A"), ("A", "T")) == (True, False)
    assert match_alleles(("H", "L"), ("L", "H")) == (True, False)
    assert match_alleles(("AC", "A"), ("GT", "T")) == (False, True)
    assert complement("AC") == "GT"
    assert complement("") is None


def test_every_way_of_writing_a_variant_reads_the_same():
    """True copies of A at an A/G variant, written from either strand counting either allele."""
    panel = make_variants(["rs1"], ["1"], np.array([5]), ["A"], ["G"], "panel")
    for copies, flipped, turned in itertools.product((0, 1, 2), (False, True), (False, True)):
        alleles = ("T", "C") if flipped else ("A", "G")
        if turned:
            alleles = alleles[::-1]
        file = make_variants(["rs1"], ["chr1"], np.array([5]), [alleles[0]], [alleles[1]], "f")
        dosage = np.array([2 - copies if turned else copies], dtype=np.int8)
        read = align(file, panel).read(Genotypes(dosage, np.array([True]), file))
        assert read[0].tolist() == [copies]
        assert read[1].all()


def test_an_alignment_says_what_it_did():
    ids = ["same", "turned", "strand", "doubt", "other", "gone", "moved", "none"]
    panel = make_variants(
        ids, ["1"] * 8, np.arange(1, 9), list("AAAAAAAA"), list("GGGTGGGG"), "panel"
    )
    file = make_variants(
        ["new", "moved", "other", "doubt", "strand", "turned", "same", "none"],
        ["1", "1", "1", "1", "1", "1", "1", "2"],
        np.array([77, 700, 5, 4, 3, 2, 1, 0]),
        list("AAATTGAA"),
        list("GGCACAGG"),
        "file",
    )
    found = align(file, panel)
    assert found.columns.tolist() == [6, 5, 4, -1, -1, -1, 1, 7]
    assert np.flatnonzero(found.turned).tolist() == [1]
    assert np.flatnonzero(found.strand).tolist() == [2]
    assert np.flatnonzero(found.doubtful).tolist() == [3]
    assert found.other_alleles == ("other",)
    assert found.moved == ("moved", "none")
    assert found.share == 5 / 8
    dosage = np.array([9, 1, 2, 2, 1, 0, 2, 1], dtype=np.int8)
    called = np.array([True, True, True, True, True, True, True, False])
    values, there = found.read(Genotypes(dosage, called, file))
    assert values.tolist() == [2, 2, 1, 0, 0, 0, 1, 0]
    assert there.tolist() == [True, True, True, False, False, False, True, False]


@pytest.mark.parametrize(
    ("flipped", "read"), [(0, [1, 1, True]), (100, [1, 1, True]), (40, [0, 0, False])]
)
def test_ambiguous_variants_are_of_the_strand_of_all_others_or_not_read(flipped, read):
    """Two copies of what the panel counts, written from either strand, counting either allele."""
    swap = str.maketrans("ACGT", "TGCA")
    ids = [f"rs{n}" for n in range(100)] + ["amb1", "amb2"]
    chromosomes, places = ["1"] * 102, np.arange(102)
    counted, other = ["A"] * 100 + ["T", "C"], ["G"] * 100 + ["A", "G"]
    panel = make_variants(ids, chromosomes, places, counted, other, "panel")
    strands = np.arange(100) < flipped
    whole = flipped == 100  # the ambiguous two too
    mine = [a.translate(swap) if s else a for a, s in zip(counted, [*strands, whole, whole],
                                                          strict=True)]  # fmt: skip
    theirs = [a.translate(swap) if s else a for a, s in zip(other, [*strands, whole, whole],
                                                            strict=True)]  # fmt: skip
    mine[-1], theirs[-1] = theirs[-1], mine[-1]  # the file counts the other allele of amb2
    file = make_variants(ids, chromosomes, places, mine, theirs, "file")
    found = align(file, panel)
    dosage = np.zeros(102, dtype=np.int8)
    dosage[-2:] = [2, 0]
    values, called = found.read(Genotypes(dosage, np.ones(102, dtype=bool), file))
    assert (values[-2:] // 2).tolist() == read[:2]
    assert called[-2:].tolist() == [read[2]] * 2
    assert found.doubtful[-2:].tolist() == [not read[2]] * 2
    assert called[:100].all()


def test_an_id_that_stands_twice_is_read_where_its_alleles_fit():
    panel = make_variants(["rs1"], ["1"], np.array([5]), ["A"], ["G"], "panel")
    file = make_variants(["rs1", "rs1"], ["1", "1"], np.array([5, 5]), ["A", "G"], ["C", "A"], "f")
    found = align(file, panel)
    assert (found.columns.tolist(), found.turned.tolist()) == ([1], [True])


def frequencies(rng, p, people):
    return rng.binomial(2 * people, p) / (2 * people), np.full(len(p), people)


def test_frequencies_tell_which_alleles_were_exchanged_without_a_trace():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.95, 2000)
    train, _ = frequencies(rng, p, 1000)
    found, calls = frequencies(rng, p, 200)
    clean = compare_frequencies(found, calls, train, 1000)
    assert len(clean.looks_turned) == 0
    assert not clean.all_turned
    assert 1000 < clean.telling < 2000
    some = np.arange(0, 2000, 20)
    mixed = found.copy()
    mixed[some] = 1 - mixed[some]
    partly = compare_frequencies(mixed, calls, train, 1000)
    assert set(partly.looks_turned) <= set(some)
    clear = some[np.abs(p[some] - 0.5) > 0.25]
    assert len(set(clear) - set(partly.looks_turned)) <= 0.05 * len(clear)
    assert not partly.all_turned
    whole = compare_frequencies(1 - found, calls, train, 1000)
    assert whole.all_turned
    assert len(whole.looks_turned) > 0.95 * whole.telling


def test_few_people_or_even_alleles_tell_nothing():
    rng = np.random.default_rng(0)
    train = rng.uniform(0.4, 0.6, 500)
    even = compare_frequencies(1 - train, np.full(500, 100), train, 1000)
    assert even.telling == 0
    assert not even.all_turned
    rare = np.full(500, 0.2)
    one = compare_frequencies(np.full(500, 1.0), np.ones(500, dtype=int), rare, 1000)
    assert not len(one.looks_turned)
    nobody = compare_frequencies(np.zeros(500), np.zeros(500, dtype=int), rare, 1000)
    assert nobody.telling == 0


def test_another_ancestry_is_not_taken_for_exchanged_alleles_as_a_whole():
    rng = np.random.default_rng(3)
    p = rng.uniform(0.1, 0.9, 1000)
    other = np.clip(p + rng.normal(0, 0.2, 1000), 0.02, 0.98)
    found, calls = frequencies(rng, other, 200)
    far = compare_frequencies(found, calls, p, 1000)
    assert not far.all_turned
    assert len(far.looks_turned) < 0.1 * far.telling


@pytest.mark.parametrize(
    ("there", "path", "command"),
    [
        ("g.pgen", "g.pgen", "say reader: pgen"),
        ("g.pgen", "g", "say reader: pgen"),
        ("g.pgen", "g.bed", "say reader: pgen"),
        ("g.pvar.zst", "g.pvar.zst", "say reader: pgen"),
        ("g.vcf.gz", "g.vcf.gz", "plink2 --vcf {g}.vcf.gz --make-bed --out {g}"),
        ("g.bgen", "g.bgen", "plink2 --bgen {g}.bgen ref-first --sample {g}.sample --make-bed"),
    ],
)
def test_files_of_other_programs_are_refused_with_the_command_that_converts_them(
    tmp_path, there, path, command
):
    (tmp_path / there).write_bytes(b"x")
    with pytest.raises(RecordError, match=r"which is not read|PLINK 2") as error:
        open_fileset("plink", {"path": tmp_path / path})
    assert command.format(g=tmp_path / "g") in str(error.value.fix)
    (tmp_path / "g.bed").write_bytes(b"x")
    if path in ("g", "g.bed"):
        assert plink_files({"path": tmp_path / path})["bed"] == tmp_path / "g.bed"
