"""Genotypes in a cohort: who is in the files, what check says, alleles of another cohort."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from small_genomes import genomes, variant_table, write_genome_cohort, write_plink

import medmcl
from medmcl.core.errors import CohortError
from medmcl.data.check.check import check_cohort
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.loading.prepare import prepare
from medmcl.data.loading.simple_features import simple_table

DATA = Path(os.environ.get("MEDMCL_DATA", "none"))


def rewrite(folder, change):
    file = folder / "cohort.yaml"
    tree = yaml.safe_load(file.read_text())
    change(tree)
    file.write_text(yaml.safe_dump(tree))


def errors(folder):
    return [one for one in medmcl.check(folder) if one.level == "error"]


def prepared(folder, splits="all", **genes):
    """The genotypes of a cohort in a folder, as they are prepared; by default, 2 components."""
    cohort = open_cohort(folder)
    inputs = {"genes": genes or {"components": 2}}
    return prepare(cohort, inputs, cache=folder / "c", splits=splits)


def codes(found):
    return [(one.code, one.level) for one in found]


def test_a_sound_cohort_has_no_findings_and_is_read_in_the_order_of_the_file(tmp_path):
    genotypes, table = write_genome_cohort(tmp_path)
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "people.csv", index=False)
    assert medmcl.check(tmp_path) == []
    read = prepared(tmp_path)
    assert list(read.cohort.records["genes"].index) == [f"s{n:03d}" for n in range(240)]
    train = (table["split"] == "train").to_numpy()
    adapter = read.adapters["genes"]
    for place, name in enumerate(adapter.panel.variants.ids):
        column = genotypes[train, int(name[2:])]
        assert adapter.panel.frequency[place] == pytest.approx(column[column >= 0].mean() / 2)
    (quality,) = read.warnings
    assert quality.code == "genetics.quality"
    assert f"judged on {train.sum()} train records" in quality.what
    values, names = simple_table(read, "genes").matrix()
    assert list(names) == ["call_rate", "heterozygosity", "PC1", "PC2"]
    assert np.isfinite(values).all()


def test_held_out_people_teach_nothing(tmp_path):
    genotypes, table = write_genome_cohort(tmp_path)
    states = []
    for fill in (None, 0, 2):
        other = genotypes.copy()
        if fill is not None:
            other[(table["split"] != "train").to_numpy()] = fill
        write_plink(tmp_path / "genotypes", other, variant_table(60), list(table["subject_id"]))
        read = prepared(tmp_path, splits=("train", "tuning"), residualise=True, components=2)
        states.append(read.adapters["genes"].state())
    assert states[0] == states[1] == states[2]


def test_people_without_genotypes_are_absent_and_strangers_are_counted(tmp_path):
    _, table = write_genome_cohort(tmp_path)
    table = pd.concat([table[20:], table[:5].assign(subject_id=[f"new{n}" for n in range(5)])])
    table.to_csv(tmp_path / "people.csv", index=False)
    cohort = open_cohort(tmp_path)
    said = [one.what for one in cohort.findings]
    assert "5 subjects whom the files do not hold: without genotypes: left out" not in said
    assert "5 subjects whom the files do not hold: without genotypes" in said
    assert "20 people of the files who are no subject in a split: not read" in said
    absent = cohort.samples["genes"].isna()
    assert set(cohort.samples["subject"][absent]) == {f"new{n}" for n in range(5)}


def test_ids_that_do_not_match_are_one_error_and_a_column_or_the_family_mends_it(tmp_path):
    genotypes, table = write_genome_cohort(tmp_path)
    write_plink(tmp_path / "genotypes", genotypes, variant_table(60), list(range(1, 241)),
                families=[f"F{n}" for n in range(240)])  # fmt: skip
    with pytest.raises(CohortError, match=r"no subject of the cohort(.|\n)*genotypes.bed names 1,"):
        open_cohort(tmp_path)
    table.assign(chip=np.arange(1.0, 241.0)).to_csv(tmp_path / "people.csv", index=False)
    rewrite(tmp_path, lambda tree: tree["modalities"]["genes"].update(column="chip"))
    assert medmcl.check(tmp_path) == []
    table.assign(chip=[f"F{n}_{n + 1}" for n in range(240)]).to_csv(
        tmp_path / "people.csv", index=False
    )
    rewrite(tmp_path, lambda tree: tree["modalities"]["genes"].update(individual="fid_iid"))
    assert medmcl.check(tmp_path) == []


def test_a_check_with_a_recipe_tries_people_of_the_whole_file(tmp_path):
    """Cases stand first, as they often do: the first 200 train people hold no control."""
    genotypes, table = write_genome_cohort(tmp_path, people=460, variants=30)
    order = np.argsort(1 - table["case"].to_numpy(), kind="stable")
    table = table.iloc[order].assign(split="train")
    table.iloc[::23, 1] = "held_out"
    table.to_csv(tmp_path / "people.csv", index=False)
    names = list(table["subject_id"])
    called = np.maximum(genotypes[order], 0)
    write_plink(tmp_path / "genotypes", called, variant_table(30), names)
    rewrite(tmp_path, lambda tree: tree["modalities"]["genes"].update(controls={"case": 0}))
    assert table["case"][:209].all()
    found = check_cohort(tmp_path, {"genes": {"components": 2}, "clinic": {}})
    assert [one.code for one in found if one.level == "error"] == []
    assert "judged on 200 train records" in next(
        one.what for one in found if one.code == "genetics.quality"
    )


def test_a_damaged_fileset_is_one_finding_of_the_cohort(tmp_path):
    write_genome_cohort(tmp_path)
    bed = tmp_path / "genotypes.bed"
    whole = bed.read_bytes()
    bed.write_bytes(whole[:-7])
    (finding,) = errors(tmp_path)
    assert "is truncated" in finding.what
    assert str(bed) in finding.where
    bed.unlink()
    (finding,) = errors(tmp_path)
    assert "no such file" in finding.what
    rewrite(tmp_path, lambda tree: tree["modalities"]["genes"].pop("path"))
    (finding,) = errors(tmp_path)
    assert "genotypes need a path" in finding.what


def test_people_with_few_calls_refuse_the_run_or_are_excluded_and_counted(tmp_path):
    genotypes, table = write_genome_cohort(tmp_path)
    genotypes[7, :10] = -1
    write_plink(tmp_path / "genotypes", genotypes, variant_table(60), list(table["subject_id"]))
    assert codes(medmcl.check(tmp_path)) == [("genetics.call_rate", "error")]
    rewrite(tmp_path, lambda tree: tree.update(on_bad_record="exclude"))
    prepared = prepare(open_cohort(tmp_path), {"genes": {"components": 2}}, cache=tmp_path / "c")
    assert "1 records of 240: genetics.call_rate 1" in prepared.exclusions()
    assert prepared.samples["subject"][~prepared.present["genes"]].tolist() == ["s007"]


def test_another_cohort_is_aligned_by_alleles_and_refused_where_frequencies_oppose(tmp_path):
    genotypes, table = write_genome_cohort(tmp_path / "one")
    inputs = {"genes": {"components": 2}}
    mine = prepare(open_cohort(tmp_path / "one"), inputs, cache=tmp_path / "c", splits="all")
    fitted = {"genes": mine.adapters["genes"].state()}
    write_genome_cohort(tmp_path / "two")
    info, turned = variant_table(60), np.where(genotypes < 0, -1, 2 - genotypes)
    exchanged = info.rename(columns={"counted": "other", "other": "counted"})
    names = list(table["subject_id"])
    write_plink(tmp_path / "two" / "genotypes", turned, exchanged, names)
    two = open_cohort(tmp_path / "two")
    theirs = prepare(two, inputs, cache=tmp_path / "c", fitted=fitted, splits="all")
    assert np.array_equal(mine.inputs("genes"), theirs.inputs("genes"))
    (finding,) = theirs.warnings
    assert "60 count the other allele and were turned" in finding.what
    write_plink(tmp_path / "two" / "genotypes", turned, info, names)
    with pytest.raises(CohortError, match="have that of the other allele in train"):
        prepare(two, inputs, cache=tmp_path / "c", fitted=fitted, splits="all")


def test_two_batches_lie_in_files_of_their_own(tmp_path):
    genotypes, table = write_genome_cohort(tmp_path)
    names = np.array(table["subject_id"])
    for batch in (0, 1):
        rows = np.arange(240) % 2 == batch
        write_plink(tmp_path / f"batch{batch}", genotypes[rows], variant_table(60), names[rows])
    table.assign(batch=np.arange(240) % 2).to_csv(tmp_path / "people.csv", index=False)
    whole = prepared(tmp_path)
    rewrite(tmp_path, lambda t: t["modalities"]["genes"].update(path="batch{batch}.bed"))
    parts = prepared(tmp_path)
    rows = [one.inputs("genes")[one.index("genes")] for one in (whole, parts)]
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)


def test_dosage_tables_give_what_the_fileset_gives(tmp_path):
    genotypes, table = write_genome_cohort(tmp_path)
    whole = prepared(tmp_path)
    info = variant_table(60)
    frame = pd.DataFrame(np.where(genotypes < 0, np.nan, genotypes), columns=list(info["id"]))
    frame.insert(0, "person", list(table["subject_id"]))
    frame.to_parquet(tmp_path / "dosages.parquet")
    info.to_csv(tmp_path / "variants.csv", index=False)
    path = {"dosages": "dosages.parquet", "variants": "variants.csv"}
    rewrite(tmp_path, lambda t: t["modalities"]["genes"].update(reader="dosages", path=path))
    assert medmcl.check(tmp_path) == []
    other = prepared(tmp_path)
    np.testing.assert_allclose(whole.inputs("genes"), other.inputs("genes"), atol=1e-6)
    rewrite(tmp_path, lambda t: t["modalities"]["genes"].update(path="dosages.parquet"))
    with pytest.raises(CohortError, match="the path has no dosages and no variants"):
        open_cohort(tmp_path)


@pytest.mark.skipif(not (DATA / "plink").is_dir(), reason="needs MEDMCL_DATA with plink")
def test_a_published_fileset_makes_a_cohort(tmp_path):
    fam = pd.read_csv(DATA / "plink" / "toydata.5chrom.fam", sep=" ", header=None)
    table = pd.DataFrame({"iid": fam[1], "y": fam[5]})
    table["split"] = np.where(np.arange(500) % 5 == 0, "held_out", "train")
    table.loc[1::10, "split"] = "tuning"
    table.to_csv(tmp_path / "people.csv", index=False)
    (tmp_path / "cohort.yaml").write_text(f"""
schema: medmcl/cohort@1
data_root: {DATA / "plink"}
subjects: {{table: people.csv, id: iid, split: split}}
modalities:
  genes: {{reader: plink, path: toydata.5chrom.bed}}
tasks:
  y: {{kind: regression, column: y}}
""")
    assert errors(tmp_path) == []
    read = prepared(tmp_path)
    (quality,) = [one for one in read.warnings if one.code == "genetics.quality"]
    assert "of 10,000 used" in quality.what
    rows = read.inputs("genes")
    assert rows.shape[0] == 500
    assert rows.shape[2] == len(read.adapters["genes"].panel.variants) > 9000
    train = rows[read.index("genes")[read.rows("train")]]
    assert np.abs(train[:, 0].mean(axis=0)).max() < 1e-4


def test_genomes_for_tests_have_the_structure_they_promise():
    genotypes, population, case = genomes(2000, 200, missing=0)
    gap = genotypes[population == 1].mean(0) / 2 - genotypes[population == 0].mean(0) / 2
    assert 0.1 < gap.std() < 0.2
    assert case[population == 1].mean() > 0.7
    assert case[population == 0].mean() < 0.3
