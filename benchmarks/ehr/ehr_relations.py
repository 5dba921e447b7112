"""Are drugs close to what they treat? AUC of known pairs in embeddings of synthetic records.

    python -m benchmarks.ehr.ehr_relations --synthea FOLDER --work WORK

``FOLDER`` as in ``ehr_study.py``. Conditions (SNOMED) and drugs (RxNorm) of all people are counted
over whole records and over calendar months, and embedded at the automatic rank. Known pairs are
those of `TREATS`, written down from general medical knowledge before any embedding was looked at;
each is set against random pairs of the same condition with other drugs. Nothing is chosen by the
result: all variants are shown.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.study import Study, interval, table
from medmcl.cooccurrence.count.command import count
from medmcl.cooccurrence.count.run import Means
from medmcl.cooccurrence.count.spec import load_spec
from medmcl.cooccurrence.embed.embed import EmbedSettings, embed_tokens
from medmcl.cooccurrence.embed.relations import relations_of
from medmcl.cooccurrence.exchange.folder import save_counts
from medmcl.stages.cooccur.relations import score_relations

TREATS = {
    "hypertension": ("hydrochlorothiazide", "amlodipine", "atenolol", "captopril"),
    "diabetes": ("metformin", "insulin", "liraglutide"),
    "sinusitis": ("amoxicillin",),
    "streptococcal sore throat": ("penicillin",),
    "otitis media": ("amoxicillin", "cefuroxime"),
    "asthma": ("albuterol", "fluticasone"),
    "pulmonary emphysema": ("salmeterol",),
    "chronic obstructive bronchitis": ("salmeterol",),
    "hyperlipidemia": ("simvastatin", "simvistatin"),
    "coronary heart disease": ("clopidogrel", "simvastatin", "simvistatin", "nitroglycerin",
                               "metoprolol"),
    "myocardial infarction": ("clopidogrel", "captopril", "nitroglycerin"),
    "stroke": ("clopidogrel", "alteplase"),
    "osteoporosis": ("alendronic",),
    "seizure disorder": ("diazepam", "clonazepam", "carbamazepine"),
    "epilep": ("diazepam", "clonazepam", "carbamazepine"),
    "atrial fibrillation": ("warfarin", "verapamil", "digoxin"),
    "alzheimer": ("galantamine", "donepezil", "memantine"),
    "malignant neoplasm of breast": ("paclitaxel", "doxorubicin", "tamoxifen"),
    "lung cancer": ("cisplatin", "etoposide", "paclitaxel"),
    "malignant neoplasm of colon": ("leucovorin", "oxaliplatin"),
    "rheumatoid arthritis": ("methotrexate", "prednisone"),
    "osteoarthritis": ("naproxen",),
    "allergic rhinitis": ("loratadine", "fexofenadine", "chlorpheniramine", "astemizole",
                          "diphenhydramine"),
    "contact dermatitis": ("hydrocortisone",),
    "cystitis": ("nitrofurantoin", "phenazopyridine"),
    "anemia": ("ferrous",),
    "congestive heart failure": ("furosemide", "lasix"),
}  # fmt: skip
"""Words of a condition to words of drugs that treat it."""
VARIANTS = {
    "claime": EmbedSettings(),
    "claime, shrunk and weighted": EmbedSettings(shrink=True, weighted=True),
    "log": EmbedSettings(association="log"),
    "smoothed": EmbedSettings(association="smoothed"),
}


def known(folder: Path) -> list[tuple[str, str, str]]:
    """Pairs of codes whose descriptions hold the words of a pair of `TREATS`."""
    names = {}
    for kind, prefix in (("conditions", "condition//"), ("medications", "drug//")):
        rows = pd.read_csv(folder / f"{kind}.csv.gz", dtype=str).drop_duplicates("code")
        names[kind] = {prefix + c: str(d).lower() for c, d in zip(rows["code"], rows["display"],
                                                                    strict=True)}  # fmt: skip
    return [
        (one, other, "treats")
        for condition, drugs in TREATS.items()
        for one, said in names["conditions"].items()
        if condition in said
        for other, drug in names["medications"].items()
        if any(word in drug for word in drugs)
    ]


def counted(folder: Path, window: str, out: Path) -> object:
    """Counts of one window."""
    sources = [
        {"kind": "table", "path": str((folder / f"{table}.csv.gz").resolve()),
         "subject": "patient_id", "time": "start", "code": "code", "prefix": f"{kind}//"}
        for table, kind in (("conditions", "condition"), ("medications", "drug"))
    ]  # fmt: skip
    tree = {
        "schema": "medmcl/cooccurrence@1",
        "sources": sources,
        "modalities": {"conditions": {"prefix": "condition//"}, "drugs": {"prefix": "drug//"}},
        "window": window,
        "vocabulary": {"min_occurrences": 16},
    }
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{window}.yaml"
    path.write_text(json.dumps(tree), encoding="utf-8")  # JSON is YAML
    spec = load_spec(path, {})
    return count(spec, out / window, save_counts, means=Means(memory=spec.keys.memory))[0]


def parts(found: dict[str, Any]) -> dict[str, str]:
    columns = {key: key for key in ("window", "variant", "rank", "pairs")}
    auc = interval()
    return {"relations": table({**columns, "AUC": lambda row: auc(row["auc"])}, found["rows"])}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--synthea", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Count, embed, score."""
    pairs, rows = known(given.synthea), []
    for window in ("record", "month"):
        counts = counted(given.synthea, window, given.work)
        for name, settings in VARIANTS.items():
            found = embed_tokens(counts, settings)
            relations = relations_of(pairs, found.table)
            score = score_relations(found.table, relations)[-1]
            rows.append({"window": window, "variant": name, "rank": found.facts["rank"],
                         "unknown": relations.unknown, **asdict(score)})  # fmt: skip
            print(rows[-1], flush=True)
    return {"pairs": len(pairs), "rows": rows}


STUDY = Study(__file__, parts=parts, run=run, options=options, page="ehr")

if __name__ == "__main__":
    STUDY.main()
