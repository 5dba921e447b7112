"""The simulated EHR cohort: codes and concepts of patients over time, as a MEDS 0.4 data set.

The tokens are those of `ehr_tokens` (CLAIME's generator). Each falls on a visit of its patient at
random, so time carries no information: whole-record counts are exact draws of the model, narrower
windows count fewer pairs of the same kind. No two events of a subject share a time.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse

from medmcl.core.rng import numpy_generator
from medmcl.simulation.ehr.settings import EhrSettings
from medmcl.simulation.ehr.tokens import BLOCK, Array, token_blocks, true_embedding
from medmcl.simulation.folder import splits_of, whole, write_about

PREFIXES = ("CODE", "CUI")
FIRST_DAY = np.datetime64("2010-01-01T08:00:00", "us")
MEDS_VERSION = "0.4.1"


@whole("truth.parquet", "metadata/dataset.json")
def simulate_ehr(folder: Path, settings: EhrSettings) -> None:
    """Write a MEDS folder; it appears whole or not at all.

    ``data/N.parquet`` (subject_id, time, code, visit_id, site), ``metadata/`` (codes with their
    family as parent, splits, dataset), ``truth.parquet`` (the embedding that drew each code) and
    ``cohort.yaml``.

    Raises:
        CohortError: The folder is not empty, and is no earlier simulated cohort to overwrite.
    """
    (folder / "data").mkdir()
    (folder / "metadata").mkdir()
    sizes = (settings.codes, settings.concepts)
    first, second = (
        true_embedding(d, settings.dimensions, settings.seed, m)
        for m, d in enumerate(sizes, start=1)
    )
    _write_shards(folder / "data", (first, second), settings)
    _write_metadata(folder, (first, second), settings)


def _write_shards(folder: Path, truth: tuple[Array, Array], settings: EhrSettings) -> None:
    names = pa.array(_names(settings))
    blocks = token_blocks(
        settings.subjects,
        truth,
        settings.case,
        c=settings.c,
        rho=settings.rho,
        seed=settings.seed,
        mean_tokens=settings.mean_tokens,
    )
    for number, (x1, x2) in enumerate(blocks):
        rng = numpy_generator(settings.seed, "ehr visits", number)
        pq.write_table(
            _events(sparse.hstack([x1, x2], format="csr"), number * BLOCK, names, settings, rng),
            folder / f"{number}.parquet",
        )


def _events(
    tokens: sparse.csr_array,
    first: int,
    names: pa.Array,
    settings: EhrSettings,
    rng: np.random.Generator,
) -> pa.Table:
    """Rows of a shard, sorted by subject and time; a subject's visits are sorted days."""
    table = tokens.tocoo()
    row = np.repeat(table.coords[0], table.data).astype(np.int64)
    code = np.repeat(table.coords[1], table.data)
    visits = 1 + rng.poisson(settings.mean_visits - 1, size=tokens.shape[0])
    begins = np.concatenate([[0], np.cumsum(visits)])
    owner = np.repeat(np.arange(tokens.shape[0]), visits)
    days = rng.integers(0, max(1, round(settings.years * 365.25)), size=begins[-1])
    days = days[np.lexsort((days, owner))]
    visit = begins[row] + (rng.random(len(row)) * visits[row]).astype(np.int64)
    order = np.lexsort((rng.random(len(row)), visit))  # visits follow subjects and days
    row, code, visit = row[order], code[order], visit[order]
    seconds = np.arange(len(row)) - np.searchsorted(row, row)  # no two events at one time
    time = FIRST_DAY + days[visit] * np.timedelta64(1, "D") + seconds * np.timedelta64(1, "s")
    sites = pa.array([f"site_{i}" for i in range(settings.sites)])
    site = rng.integers(0, settings.sites, size=tokens.shape[0])
    return pa.table(
        {
            "subject_id": pa.array(row + first + 1),
            "time": pa.array(time.astype("datetime64[us]")),
            "code": names.take(pa.array(code)),
            "visit_id": pa.array((row + first + 1) * 1000 + visit - begins[row]),
            "site": sites.take(pa.array(site[row])),
        }
    )


def _write_metadata(folder: Path, truth: tuple[Array, Array], settings: EhrSettings) -> None:
    names = _names(settings)
    whole = np.concatenate(truth)
    largest = np.abs(whole).argmax(axis=1)
    families = [
        f"FAMILY//{k}{'+' if v[k] > 0 else '-'}" for v, k in zip(whole, largest, strict=True)
    ]
    codes = {
        "code": pa.array(names),
        "description": pa.array([f"simulated {name.replace('//', ' ')}" for name in names]),
        "parent_codes": pa.array([[f] for f in families], pa.list_(pa.string())),
    }
    pq.write_table(pa.table(codes), folder / "metadata" / "codes.parquet")
    columns = {f"v_{k}": pa.array(whole[:, k]) for k in range(settings.dimensions)}
    pq.write_table(
        pa.table({"code": codes["code"], "family": pa.array(families), **columns}),
        folder / "truth.parquet",
    )
    order = numpy_generator(settings.seed, "ehr splits").permutation(settings.subjects)
    split = splits_of(order, settings, rounded=False)
    ids = pa.array(np.arange(1, settings.subjects + 1))
    pq.write_table(
        pa.table({"subject_id": ids, "split": pa.array(split.tolist())}),
        folder / "metadata" / "subject_splits.parquet",
    )
    dataset = {
        "dataset_name": "medmcl simulated EHR",
        "dataset_version": f"seed {settings.seed}",
        "etl_name": "medmcl simulate ehr",
        "meds_version": MEDS_VERSION,
        "site_id_columns": ["site"],
        "other_extension_columns": ["visit_id"],
        "license": "CC0-1.0",
    }
    (folder / "metadata" / "dataset.json").write_text(json.dumps(dataset, indent=2) + "\n")
    write_about(folder, "ehr/", settings)


def _names(settings: EhrSettings) -> list[str]:
    sizes = zip(PREFIXES, (settings.codes, settings.concepts), strict=True)
    return [f"{prefix}//{i}" for prefix, size in sizes for i in range(size)]
