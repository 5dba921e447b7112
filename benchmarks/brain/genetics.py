"""Stratification in a case-control study: what it does to association and to prediction.

``python -m benchmarks.brain.genetics path/to/snp`` reads genotypes of HapMap people of two ancestries
(``chr10_5000snps.npz``, ``snps.csv``, ``subjects.csv``) whose case status is simulated.
Everything that is fitted is fitted on the train people of each fold.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold

from benchmarks import study
from benchmarks.brain.score_tests import score_tests
from benchmarks.study import Row, number, table
from medmcl.core.findings import counted
from medmcl.encoders import build_encoder
from medmcl.modalities.genetics.adapter import Genetics
from medmcl.modalities.genetics.files import Dosages
from medmcl.modalities.genetics.settings import GeneticsSettings, GeneticsSource
from medmcl.modalities.genetics.variants import Genotypes

COMPONENTS, FOLDS, REPEATS, DRAWS = 10, 5, 2, 2000
BLOCK_BP, BLOCKS_A_SET = 100_000, 10
PENALTIES = 10.0 ** np.arange(-6, 1)
EPOCHS, PATIENCE, BATCH, LR = 40, 5, 64, 1e-3


@dataclass(frozen=True)
class People:
    """People: genotypes, case or control, and ancestry."""

    raws: list[Genotypes]
    case: np.ndarray
    stratum: np.ndarray


def read_study(folder: Path) -> People:
    """The study through the reader of dosage tables, as a user would have it."""
    with np.load(folder / "chr10_5000snps.npz", allow_pickle=False) as file:
        genotype, subjects, ids = file["genotype"], file["subject"], file["snp"]
    about = pd.read_csv(folder / "snps.csv", index_col=0).loc[ids]
    people = pd.read_csv(folder / "subjects.csv", index_col=0).loc[subjects]
    variants = pd.DataFrame(
        {"id": ids, "chromosome": about["chromosome"].to_numpy(int), "position": about["position"],
         "counted": about["A2"], "other": about["A1"]}
    )  # fmt: skip
    table = pd.DataFrame(np.where(genotype < 0, np.nan, genotype).astype(np.float32), columns=ids)
    table.insert(0, "subject", subjects)
    with tempfile.TemporaryDirectory() as here:
        files = {name: Path(here) / f"{name}.parquet" for name in ("dosages", "variants")}
        table.to_parquet(files["dosages"])
        variants.to_parquet(files["variants"])
        source = Dosages(files)
    stratum = people["stratum"].to_numpy(str)
    raws = [
        Genotypes(*source.row(source.individuals[name]), source.variants, group)
        for name, group in zip(subjects, stratum, strict=True)
    ]
    return People(raws, people["cc"].to_numpy(int), stratum)


def fitted(people: People, rows: np.ndarray, gives: str = "dosages", **settings) -> Genetics:
    adapter = Genetics(
        GeneticsSource(reader="dosages", gives=gives),
        GeneticsSettings(components=COMPONENTS, **settings),
    )
    adapter.fit(people.raws[row] for row in rows)
    return adapter


def prepared(adapter: Genetics, people: People) -> np.ndarray:
    """Everybody, (N, 2, V)."""
    return np.stack([adapter.prepare(raw) for raw in people.raws])


def association(people: People) -> dict[str, list[Row]]:
    """Tests of all variants, of everybody, and of a half that is projected."""
    everyone = np.arange(len(people.case))
    adapter = fitted(people, everyone)
    print(f"Quality control: {adapter.panel.summary()}.\n")
    pooled = People(
        [Genotypes(r.dosage, r.called, r.variants, "") for r in people.raws],
        people.case, people.stratum,
    )  # fmt: skip
    together = fitted(pooled, everyone)
    lost = len(together.panel.excluded["equilibrium"])
    print(f"With both ancestries tested together {lost} variants would be out of equilibrium.\n")
    x = prepared(adapter, people)
    scores = prepared(fitted(people, everyone, "components"), people)[:, 0]
    known = (people.stratum == people.stratum[0]).astype(float)[:, None]
    asked = [("none", None)]
    asked += [(counted(k, "component"), scores[:, :k]) for k in (1, 2, 5, 10)]
    asked += [("the true stratum", known)]
    whole = [
        tested(name, score_tests(x[:, 0], people.case, covariates, x[:, 1] > 0))
        for name, covariates in asked
    ]
    half = np.random.default_rng(0).permutation(len(people.case))
    train, new = half[: len(half) // 2], np.sort(half[len(half) // 2 :])
    adapter = fitted(people, np.sort(train))
    components = fitted(people, np.sort(train), "components")
    x, scores = prepared(adapter, people)[new], prepared(components, people)[new, 0]
    asked = [("none", None), ("1 component", scores[:, :1]), ("10 components", scores)]
    projected = [
        tested(name, score_tests(x[:, 0], people.case[new], covariates, x[:, 1] > 0))
        for name, covariates in [*asked, ("the true stratum", known[new])]
    ]
    shrinkage = ", ".join(f"{value:.2f}" for value in components.panel.ancestry.shrinkage)
    print(f"\nSize of projected people's components, as a share of train people's: {shrinkage}.\n")
    return {"association": whole, "projected": projected}


def tested(name: str, found) -> Row:
    """Inflation, share of variants with p < .05, and the smallest p."""
    share, least = np.nanmean(found.p < 0.05), np.nanmin(found.p)
    told = {"share": 100 * float(share), "smallest": float(least)}
    return {"covariates": name, "inflation": float(found.inflation), **told}


def maps(adapter: Genetics, folder: Path, seed: int | None) -> dict:
    """A stand-in for genes and pathways: blocks of 100 kb, ten neighbours a set; or shuffled."""
    shape = adapter.input_shape
    block = np.array([int(place.split(":")[1]) // BLOCK_BP for place in shape.places])
    if seed is not None:
        block = np.random.default_rng(seed).permutation(block)
    names = [f"B{number}" for number in block]
    pairs, sets = folder / "pairs.csv", folder / "sets.csv"
    pd.DataFrame({"snp": shape.names, "gene": names}).to_csv(pairs, index=False)
    every = sorted(set(block.tolist()))
    pd.DataFrame(
        {"gene": [f"B{b}" for b in every], "pathway": [f"S{b // BLOCKS_A_SET}" for b in every]}
    ).to_csv(sets, index=False)
    return {"snp_gene": pairs, "pathways": sets}


def network(adapter, x, y, train, seed, settings) -> np.ndarray:
    """Predictions of everybody; when to stop is chosen on a seventh of train."""
    import torch

    torch.manual_seed(seed)
    encoder = build_encoder(
        "snp_pathway", adapter.input_shape, {"width": 32, "dropout": 0.3, **settings}
    )
    model = torch.nn.ModuleList([encoder, torch.nn.Linear(32, 1)])

    def logits(x):
        return model[1](model[0](x).features)[:, 0]

    optimiser = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed)
    order = train[torch.randperm(len(train), generator=generator).numpy()]
    tuning, fit = order[: len(order) // 7], order[len(order) // 7 :]
    rows, target = torch.from_numpy(x), torch.from_numpy(y.astype(np.float32))
    best, kept, waited = np.inf, np.zeros(len(y)), 0
    for _ in range(EPOCHS):
        model.train()
        for part in torch.from_numpy(fit)[torch.randperm(len(fit), generator=generator)].split(
            BATCH
        ):
            drop = (torch.rand(len(part), 1, x.shape[2], generator=generator) > 0.1).float()
            seen = torch.cat([rows[part, :1], rows[part, 1:] * drop], dim=1)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits(seen), target[part])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        model.eval()
        with torch.no_grad():
            said = logits(rows)
        loss = float(
            torch.nn.functional.binary_cross_entropy_with_logits(said[tuning], target[tuning])
        )
        waited += 1
        if loss < best:
            best, kept, waited = loss, said.numpy(), 0
        if waited == PATIENCE:
            break
    return kept


def ridge(x: np.ndarray, y: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Logistic regression; the penalty is chosen by five folds inside train."""
    model = LogisticRegressionCV(
        Cs=PENALTIES, cv=5, scoring="neg_log_loss", solver="lbfgs", max_iter=2000,
        l1_ratios=(0.0,), use_legacy_attributes=False,
    )  # fmt: skip
    return model.fit(x[train], y[train]).decision_function(x)


def predict_all(people: People, train: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    y = people.case
    plain = fitted(people, train)
    residual = fitted(people, train, residualise=True)
    x, r = prepared(plain, people), prepared(residual, people)
    scores = prepared(fitted(people, train, "components"), people)[:, 0]
    rate = {s: y[train][people.stratum[train] == s].mean() for s in set(people.stratum)}
    said = {
        "case rate of the true stratum": np.array([rate[s] for s in people.stratum]),
        "10 components, logistic": LogisticRegression(max_iter=2000)
        .fit(scores[train], y[train])
        .decision_function(scores),
        "dosages, ridge logistic": ridge(x[:, 0], y, train),
        "residual dosages, ridge logistic": ridge(r[:, 0], y, train),
    }
    with tempfile.TemporaryDirectory() as here:
        folder = Path(here)
        wired = maps(plain, folder, None)
        said["dosages, snp_pathway (blocks)"] = network(plain, x, y, train, seed, wired)
        said["residual dosages, snp_pathway (blocks)"] = network(plain, r, y, train, seed, wired)
        shuffled = maps(plain, folder, seed)
        name = "residual dosages, snp_pathway (shuffled blocks)"
        said[name] = network(plain, r, y, train, seed, shuffled)
    name = "residual dosages, snp_pathway (bottleneck, no map)"
    said[name] = network(plain, r, y, train, seed, {"rest": 32})
    return said


def simulated(people: People) -> People:
    """The same genotypes, a case status with a known cause, and the stratification kept.

    Liability: 60 causal variants in 6 blocks (half of its variance within strata), the rest
    noise; a person is a case if it is above the stratum's quantile of the true case rate.
    """
    rng = np.random.default_rng(0)
    adapter = fitted(people, np.arange(len(people.case)))
    x = prepared(adapter, people)[:, 0]
    block = np.array([int(p.split(":")[1]) // BLOCK_BP for p in adapter.input_shape.places])
    sizes = pd.Series(block).value_counts()
    chosen = rng.choice(np.sort(sizes.index[sizes >= 10]), size=6, replace=False)
    causal = np.concatenate([rng.choice(np.flatnonzero(block == b), 10, False) for b in chosen])
    score = x[:, causal] @ rng.normal(size=len(causal))
    case = np.zeros(len(x), dtype=int)
    for stratum in sorted(set(people.stratum)):
        rows = np.flatnonzero(people.stratum == stratum)
        genetic = (score[rows] - score[rows].mean()) / score[rows].std()
        liability = genetic + rng.normal(size=len(rows))
        rate = people.case[rows].mean()
        case[rows] = liability > np.quantile(liability, 1 - rate)
    return People(people.raws, case, people.stratum)


def prediction(people: People, repeats: int) -> list[Row]:
    """AUROC over pairs of one fold: all of them, and those of one stratum."""
    y, count = people.case, len(people.case)
    cells: dict[tuple[str, str], list[list[tuple]]] = {}
    for repeat in range(repeats):
        label = np.char.add(people.stratum.astype(str), y.astype(str))
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=repeat).split(label, label)
        for fold, (train, test) in enumerate(folds):
            for name, values in predict_all(people, train, 10 * repeat + fold).items():
                for group in ("all", *sorted(set(people.stratum))):
                    rows = test if group == "all" else test[people.stratum[test] == group]
                    cases, controls = rows[y[rows] == 1], rows[y[rows] == 0]
                    gap = values[cases][:, None] - values[controls][None]
                    won = (np.sign(gap) + 1) / 2
                    part = "all" if group == "all" else "within"
                    cells.setdefault((name, part), []).append((won, cases, controls))
    rng = np.random.default_rng(0)
    draws = [np.ones(count)]
    draws += [np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(DRAWS)]
    return [
        {"method": name, **{part: interval(cells[name, part], draws) for part in ("all", "within")}}
        for name in dict.fromkeys(name for name, _ in cells)
    ]


def interval(parts: list[tuple], draws: list[np.ndarray]) -> Row:
    values = []
    for weight in draws:
        won = sum(weight[a] @ table @ weight[b] for table, a, b in parts)
        values.append(won / sum(weight[a].sum() * weight[b].sum() for _, a, b in parts))
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return {"value": float(values[0]), "low": float(low), "high": float(high)}


def parts(rows: dict[str, list[Row]]) -> dict[str, str]:
    def tests(key: str, people: str, share: str) -> str:
        columns = {
            f"covariates, {people}": "covariates",
            "lambda": number("inflation", ".2f"),
            share: lambda row: f"{row['share']:.1f}%",
            "smallest p": number("smallest", ".1e"),
        }
        return table(columns, rows[key])

    def areas(key: str) -> str:
        shown = study.interval()
        columns = {
            "method": "method",
            "AUROC, all pairs": lambda row: shown(row["all"]),
            "AUROC within strata": lambda row: shown(row["within"]),
        }
        return table(columns, rows[key])

    return {
        "association": tests("association", "all 1,000 people", "variants with p < .05"),
        "projected": tests("projected", "500 people who are projected", "p < .05"),
        "published": areas("published"),
        "simulated": areas("simulated"),
    }


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path)


def run(given: argparse.Namespace) -> dict[str, list[Row]]:
    import torch

    torch.set_num_threads(1)
    people = read_study(given.folder)
    found = association(people)
    print(found, flush=True)
    published = prediction(people, REPEATS)  # simulated there, cause unknown
    return {**found, "published": published, "simulated": prediction(simulated(people), 1)}


STUDY = study.Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
