"""Outcome prediction from codes: factorised counts against a bag of codes, on synthetic records.

    python -m benchmarks.ehr.ehr_study --synthea FOLDER --work WORK

``FOLDER`` holds Synthea's tables, flattened: patients, conditions, medications, procedures and
encounters as csv.gz. People are taken at a landmark: codes up to 1 January 2012 are inputs; from it
are counted days to death, censored at the last encounter. Left out and counted are those who died
or left before it, and those without a code before it. Every method reads the same modality, has
the same label subsets (10 draws of 10 %), and is scored once on the same held-out people. The rank
is chosen on the tuning people by a Cox probe, among 5, 10, 20 and 40.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

import medmcl
from benchmarks.study import Row, Study, grid, interval

LANDMARK = pd.Timestamp("2012-01-01")
RANKS = (5, 10, 20, 40)
TELLING = ("death", "discharge", "hospice", "terminal")
"""Words of a description by which a code tells the outcome, or that somebody was about to die."""
KINDS = {"conditions": "condition", "medications": "drug", "procedures": "procedure"}


def days(column: pd.Series) -> pd.Series:
    """Points in time without zone."""
    return pd.to_datetime(column, utc=True, format="ISO8601").dt.tz_localize(None)


def read_events(folder: Path, counts: dict[str, int]) -> pd.DataFrame:
    """Every code with its time, without those that tell the outcome."""
    tables = []
    for name, kind in KINDS.items():
        table = pd.read_csv(folder / f"{name}.csv.gz", dtype=str)
        told = table["display"].fillna("").str.lower().str.contains("|".join(TELLING))
        counts[f"{name} that tell the outcome"] = int(told.sum())
        kept = table[~told]
        rows = {
            "subject_id": kept["patient_id"],
            "time": days(kept["start"]),
            "code": kind + "//" + kept["code"],
        }
        tables.append(pd.DataFrame(rows))
    return pd.concat(tables, ignore_index=True)


def build(folder: Path, out: Path, seed: int) -> dict[str, int]:
    """Write the cohort at the landmark; give what was left out."""
    counts: dict[str, int] = {}
    people = pd.read_csv(folder / "patients.csv.gz", dtype=str).set_index("patient_id")
    events = read_events(folder, counts)
    seen = pd.read_csv(folder / "encounters.csv.gz", dtype=str, usecols=["patient_id", "start"])
    last = days(seen["start"]).groupby(seen["patient_id"]).max().reindex(people.index)
    died = days(people["death_date"])
    counts["people"] = len(people)
    gone = (died <= LANDMARK) | (died.isna() & ~(last > LANDMARK))
    counts["died or left before the landmark"] = int(gone.sum())
    before = set(events["subject_id"][events["time"] <= LANDMARK])
    new = ~gone & ~people.index.isin(before)
    counts["without a code before the landmark"] = int(new.sum())
    kept = people[~gone & ~new]
    end = died.fillna(last).reindex(kept.index)
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "subject_id": kept.index,
            "split": rng.choice(["train", "tuning", "held_out"], len(kept), p=[0.5, 0.15, 0.35]),
            "landmark": LANDMARK.date().isoformat(),
            "days": (end - LANDMARK).dt.days.clip(lower=1).to_numpy(),
            "died": died.reindex(kept.index).notna().astype(int).to_numpy(),
            "age": (LANDMARK - pd.to_datetime(kept["birth_date"])).dt.days.to_numpy() / 365.25,
            "sex": kept["gender"].to_numpy(),
        }
    )
    counts["in the study"], counts["deaths"] = len(table), int(table["died"].sum())
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "people.tsv", sep="\t", index=False)
    events[events["subject_id"].isin(kept.index)].to_parquet(out / "events.parquet", index=False)
    source = {"reader": "events", "table": "events.parquet", "id": "subject_id", "date": "time"}
    tree = {
        "schema": "medmcl/cohort@1",
        "subjects": {"table": "people.tsv", "id": "subject_id", "split": "split"},
        "index": {"column": "landmark"},
        "modalities": {
            "codes": {**source, "present": "startswith(code, 'condition//')"},
            "concepts": {**source, "present": "not startswith(code, 'condition//')"},
            "clinic": {
                "reader": "table",
                "columns": {"age": {"kind": "number", "unit": "years"}, "sex": "category"},
            },
        },
        "tasks": {
            "death": {
                "kind": "survival", "time": "days", "event": "died", "unit": "days",
                "horizons_years": [5],
            }
        },
    }  # fmt: skip
    (out / "cohort.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return counts


def recipe(out: Path, ranks: tuple[int, ...], draws: int) -> Path:
    """CLAIME's recipe with a factorisation of each rank, the baselines of its paper, covariates."""
    from medmcl.stages.recipe.file import read_recipe

    tree = json.loads(read_recipe("claime").model_dump_json(by_alias=True))
    stage, results = tree["stages"]
    for name in ("codes", "concepts"):
        tree["inputs"][name]["min_patients"] = 5
    tree["inputs"]["clinic"] = {}
    methods = {}
    tree["stages"] = []
    for rank in ranks:
        own = {name: {"width": rank} for name in ("codes", "concepts")}
        for estimator in ("claime", "within_only") if len(ranks) == 1 else ("claime",):
            name = f"{estimator}-{rank}"
            tree["stages"].append({**stage, "name": name, "encoder": own, "estimator": estimator})
            methods[{"claime": "CLAIME", "within_only": "within-only PMI-SVD"}[estimator]
                    + (f" {rank}" if len(ranks) > 1 else "")] = name  # fmt: skip
    results |= {
        "probe": {"modality": "codes", "models": methods, "protocol": "cox"},
        "covariates": "clinic",
        "label_fractions": [0.1, 1.0],
        "draws": draws,
        "bootstrap_draws": 1000,
        "retrieval": None,
    }
    tree["stages"].append(results)
    path = out / f"recipe-{'-'.join(map(str, ranks))}.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


def choose_rank(cohort: Path, out: Path) -> dict[int, float]:
    """C-index of a Cox probe on the tuning people, by rank; held-out people are not opened."""
    from medmcl.evaluation import c_index
    from medmcl.evaluation.models.risk_model import RiskModel

    people = pd.read_csv(cohort / "people.tsv", sep="\t", dtype={"subject_id": str})
    seen = people[people["split"] != "held_out"].set_index("subject_id")
    scratch = out / "choosing"
    scratch.mkdir(parents=True, exist_ok=True)
    people[people["split"] != "held_out"].to_csv(scratch / "people.tsv", sep="\t", index=False)
    for name in ("events.parquet", "cohort.yaml"):
        (scratch / name).write_bytes((cohort / name).read_bytes())
    scores = {}
    for rank in RANKS:
        path = recipe(scratch, (rank,), 1)
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        tree["stages"] = [stage for stage in tree["stages"] if stage["stage"] == "factorise"][:1]
        path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        run = medmcl.pretrain(scratch, recipe=path, out=scratch / f"run-{rank}")
        table = run.embed(scratch, modality="codes").reset_index().set_index("subject")
        split = seen["split"].reindex(table.index)
        x = table.filter(regex=r"^e\d+$|^f\d+$|^\d+$").to_numpy()
        y = seen.loc[table.index, ["died", "days"]]
        train, tuning = (split == "train").to_numpy(), (split == "tuning").to_numpy()
        outcome = np.array(
            list(zip(y["died"].astype(bool), y["days"].astype(float), strict=True)),
            dtype=[("event", bool), ("time", float)],
        )
        risk = RiskModel(kind="survival").fit(x[train], outcome[train]).predict(x[tuning])
        scores[rank] = float(
            c_index(outcome["event"][tuning], outcome["time"][tuning], np.asarray(risk))
        )
    return scores


def against(rows: list[Row], methods: Mapping[str, str], base: str) -> str:
    """A table of C-indices with a tenth of the labels and with all, and of differences to a base."""
    found = {
        (row["method"], bool(row["versus"]), row["label_fraction"]): row
        for row in rows
        if row["metric"] == "c_index"
    }

    def cell(method: str, versus: bool, fraction: float) -> str:
        row = found.get((method, versus, fraction))
        return "" if row is None else interval(sign="+" if versus else "")(row)

    columns = [(versus, fraction) for versus in (False, True) for fraction in (0.1, 1.0)]
    lines = [[name, *(cell(key, *column) for column in columns)] for key, name in methods.items()]
    less = [f"against {base}, {share}" for share in ("10 %", "all")]
    return grid(["method", "10 % of the labels", "all labels", *less], lines)


def ranks(scores: Mapping[str, float]) -> str:
    """What was chosen among, with its score."""
    return ", ".join(f"{one}: {score:.3f}" for one, score in scores.items())


def parts(found: dict[str, Any]) -> dict[str, str]:
    rank = found["rank"]
    methods = {
        "CLAIME": f"CLAIME, rank {rank}",
        "simple features (codes)": "bag of codes (TF-IDF)",
        "within-only PMI-SVD": f"within-only PMI-SVD, rank {rank}",
        "covariates": "age and sex",
        "covariates + embedding": "age, sex and CLAIME",
    }
    table = against(found["rows"], methods, "CLAIME")
    return {"death": table, "ranks": ranks(found["tuning_c_index_by_rank"])}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--synthea", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Build the cohort, choose the rank, train and score."""
    cohort = given.work / "cohort"
    counts = build(given.synthea, cohort, given.seed)
    scores = choose_rank(cohort, given.work)
    rank = max(scores, key=lambda one: scores[one])
    path = recipe(given.work, (rank,), 10)
    trained = medmcl.pretrain(cohort, recipe=path, out=given.work / "run")
    assert trained is not None
    rows = pd.read_csv(trained.path / "results.csv")
    rows = rows[rows["metric"].isin(["c_index", "c_index_ipcw", "auc_at_horizon"])]
    return {
        "counts": counts,
        "tuning_c_index_by_rank": {str(one): score for one, score in scores.items()},
        "rank": rank,
        "rows": json.loads(rows.to_json(orient="records", double_precision=12)),
    }


STUDY = Study(__file__, parts=parts, run=run, options=options, page="ehr")

if __name__ == "__main__":
    STUDY.main()
