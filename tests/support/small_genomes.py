"""Two populations whose alleles differ in frequency, and whose people differ in case rate."""

import numpy as np
import pandas as pd
import yaml

CODES = np.array([3, 2, 0], dtype=np.uint8)  # of 0, 1 and 2 copies of the first allele
NO_CALL = 1
PVAR = "##source=test\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\n"
PAIRS = [("A", "G"), ("C", "T"), ("A", "C"), ("G", "T")]


def genomes(people=400, variants=300, seed=0, missing=0.005, apart=0.15):
    """Genotypes (N, V) int8 with -1 where missing, population (N,) 0/1, and case (N,) 0/1.

    Frequencies of the two populations lie about ``apart`` from each other. No variant causes
    anything; three quarters of one population and a quarter of the other are cases.
    """
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.2, 0.8, variants)
    shift = rng.normal(0, apart, variants)
    p = np.clip(np.stack([base - shift / 2, base + shift / 2]), 0.05, 0.95)
    population = np.arange(people) % 2
    genotypes = rng.binomial(2, p[population]).astype(np.int8)
    genotypes[rng.random(genotypes.shape) < missing] = -1
    case = (rng.random(people) < np.where(population == 1, 0.75, 0.25)).astype(int)
    return genotypes, population, case


def variant_table(count, chromosomes=2):
    """Ids, places and unambiguous alleles of variants, in order."""
    counted, other = zip(*(PAIRS[n % len(PAIRS)] for n in range(count)), strict=True)
    per = -(-count // chromosomes)
    return pd.DataFrame(
        {
            "id": [f"rs{n}" for n in range(count)],
            "chromosome": [1 + n // per for n in range(count)],
            "position": [1000 * (1 + n % per) for n in range(count)],
            "counted": counted,
            "other": other,
        }
    )


def write_plink(stem, genotypes, table, names, families=None):
    """Write a fileset; genotypes count the first allele, -1 = missing."""
    people, count = genotypes.shape
    codes = np.where(genotypes < 0, NO_CALL, CODES[np.maximum(genotypes, 0)]).astype(np.uint8)
    padded = np.zeros((count, 4 * ((people + 3) // 4)), dtype=np.uint8)
    padded[:, :people] = codes.T
    quads = padded.reshape(count, -1, 4)
    packed = quads[..., 0] | quads[..., 1] << 2 | quads[..., 2] << 4 | quads[..., 3] << 6
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".bed").write_bytes(b"\x6c\x1b\x01" + packed.tobytes())
    rows = zip(
        *(table[c] for c in ("chromosome", "id", "position", "counted", "other")), strict=True
    )
    bim = "".join(f"{c}\t{i}\t0\t{p}\t{a}\t{b}\n" for c, i, p, a, b in rows)
    stem.with_suffix(".bim").write_text(bim)
    families = names if families is None else families
    fam = "".join(f"{f} {n} 0 0 0 -9\n" for f, n in zip(families, names, strict=True))
    stem.with_suffix(".fam").write_text(fam)
    return stem.with_suffix(".bed")


def write_genome_cohort(folder, seed=0, people=240, variants=60, **modality):
    """A cohort of a PLINK fileset and a table that knows the population."""
    genotypes, population, case = genomes(people, variants, seed)
    names = [f"s{n:03d}" for n in range(people)]
    write_plink(folder / "genotypes.bed", genotypes, variant_table(variants), names)
    rng = np.random.default_rng(seed + 1)
    table = pd.DataFrame(
        {
            "subject_id": names,
            "split": np.array(["train", "tuning", "held_out"])[
                np.searchsorted([0.6, 0.75], rng.random(people))
            ],
            "case": case,
            "population": np.array(["A", "B"])[population],
            "height": 170 + 8 * population + rng.normal(0, 4, people),
        }
    )
    table.to_csv(folder / "people.csv", index=False)
    plink = {"reader": "plink", "path": "genotypes.bed"}
    tree = {
        "schema": "medmcl/cohort@1",
        "subjects": {"table": "people.csv", "id": "subject_id", "split": "split"},
        "modalities": {
            "genes": {**plink, "ancestry": "population", **modality},
            "clinic": {"reader": "table", "columns": {"height": "number"}},
        },
        "tasks": {"case": {"kind": "binary", "column": "case"}},
    }
    (folder / "cohort.yaml").write_text(yaml.safe_dump(tree))
    return genotypes, table


def write_pgen(stem, dosages, table, names, header=True):
    """Write dosages (N, V) of the ALT allele, -1 where there is none, as a fileset of PLINK 2."""
    import pgenlib

    people, count = dosages.shape
    writer = pgenlib.PgenWriter(
        str(stem.with_suffix(".pgen")).encode(), people, variant_ct=count, nonref_flags=False,
        dosage_present=True,
    )  # fmt: skip
    for column in np.where(dosages < 0, -9, dosages).T.astype(np.float32):
        writer.append_dosages(np.ascontiguousarray(column))
    writer.close()
    rows = [
        (str(one.chromosome), str(one.position), one.id, one.other, one.counted, ".")
        if header
        else (str(one.chromosome), one.id, "0", str(one.position), one.counted, one.other)
        for one in table.itertuples()
    ]
    said = PVAR if header else ""
    stem.with_suffix(".pvar").write_text(said + "".join("\t".join(row) + "\n" for row in rows))
    people = [f"f{n}\t{name}\tNA\n" if header else f"f{n} {name}\n" for n, name in enumerate(names)]
    stem.with_suffix(".psam").write_text(("#FID\tIID\tSEX\n" if header else "") + "".join(people))
    return stem.with_suffix(".pgen")
