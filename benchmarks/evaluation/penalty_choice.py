"""What should choose a probe's penalty: a few tuning people, or cross-validation over train too.

``OMP_NUM_THREADS=1 python benchmarks/evaluation/penalty_choice.py`` writes ``penalty_choice.json`` and
``penalty_choice.md`` beside itself. The truth is simulated: 2,000 further people of each cohort judge.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from medmcl.core.targets import Targets, TaskKind
from medmcl.evaluation.models.penalty import cross_validated_strength, prediction_loss
from medmcl.evaluation.models.probe import linear_probe, linear_walk
from medmcl.evaluation.models.strength import (
    ENOUGH,
    STRENGTHS,
    chosen_strength,
    deciding_cases,
    prior_loss,
)

HERE = Path(__file__)
FURTHER = 2_000
SIZES = (75, 150, 300, 600, 1_200)
KINDS: tuple[TaskKind, ...] = ("survival", "binary", "regression")
FEATURES = {
    "table": "6 columns, of which 4 tell the outcome",
    "embedding": "64 numbers that hold the 4 in noise, of an encoder that learned elsewhere",
    "overfitted": "the same 64; those of train people also hold their outcome, as of an encoder "
    "that has learned them by heart",
    "noise": "64 numbers that tell nothing",
}
RULES = ("tuning alone", "tuning, weighed", "folds of train", "folds of train and tuning")
HALF_PRECISIONS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Half the inverse squared width of the prior; 0 = no prior."""
CHOOSE, REPORT = range(30), range(1_000, 1_060)
"""Seeds that the width was chosen on, and those of the page."""

READING = """- A few cases alone choose badly. Up to 9 cases and where features tell, tuning alone takes the
  strongest penalty in 2 to 43 % of cohorts; of 64 numbers it takes one far too weak in a few, whose
  loss makes the mean (.63 against a median of .02: survival, embedding, 75 people).
- Weighed, the strongest is all but out of reach (4.5 nats): that it is never chosen where few decide
  is by construction. Up to 15 cases an embedding loses about half or less of what tuning alone does,
  an overfitted one as much or less but for survival at 300; from 18 cases on the two differ little,
  for better and worse. On noise the median is worse, the mean
  worse (up to .004 of log loss, .04 of squared error) or better: people who cannot be told apart are
  told apart a little. So a report cannot say of an embedding that it found nothing; its held-out
  interval must.
- Folds of train and tuning lose least for a table at every size, and for an embedding of elsewhere.
  Of an overfitted one they see the outcome in the features: too weak a penalty in 87 to 100 % of
  cohorts, at every size. Which of the two its encoder is, a run cannot tell.

So embeddings, and what holds one, have tuning, weighed where fewer than 50 cases decide; covariates
and simple features, which have learned from nobody, have folds of train and tuning there, unless a
share of the labels leaves train smaller than tuning. A paired difference of the two holds that
difference of rules as well. Multiclass, multilabel and discrete-time tasks have the same rules, and
were not measured.
"""


def cohort(kind: TaskKind, features: str, size: int, seed: int) -> tuple[np.ndarray, Targets]:
    """Features and outcomes of so many people and of `FURTHER`; 70 % train."""
    rng = np.random.default_rng([seed, size])
    people = size + FURTHER
    hidden = rng.normal(size=(people, 4))
    score = hidden @ np.array([0.6, 0.4, -0.3, 0.2])
    if kind == "survival":
        time, end = rng.exponential(np.exp(-score)), rng.exponential(1.2, people)
        values = np.column_stack([np.minimum(time, end), time <= end]).astype(float)
        outcome = -np.log(time)
    elif kind == "binary":
        values = (rng.random(people) < 1 / (1 + np.exp(0.8 - score)))[:, None].astype(float)
        outcome = 2 * values[:, 0] - 1
    else:
        outcome = score + rng.normal(size=people)
        values = outcome[:, None]
    x = np.hstack([hidden, rng.normal(size=(people, 2))])
    if features == "noise":
        x = rng.normal(size=(people, 64))
    elif features != "table":
        x = 0.5 * hidden @ rng.normal(size=(4, 64)) + 1.5 * rng.normal(size=(people, 64))
    if features == "overfitted":
        train = round(0.7 * size)
        x[:train] += 0.6 * outcome[:train, None] * rng.normal(size=64)
    return x, Targets(
        name="outcome",
        kind=kind,
        columns=("time", "event") if kind == "survival" else ("y",),
        values=values,
        known=np.ones(values.shape, dtype=bool),
        unit="days" if kind == "survival" else "",
    )


def losses(kind: TaskKind, features: str, size: int, seed: int) -> dict[str, list[float] | int]:
    """Of each rule, and of each width, what is lost a person and where in the grid it chose."""
    grid = STRENGTHS[kind]
    x, targets = cohort(kind, features, size, seed)
    train = np.arange(round(0.7 * size))
    tuning = np.arange(len(train), len(train) + round(0.09 * size))
    further = np.arange(size, size + FURTHER)
    fits = [linear_probe(x, targets, train, tuning[:0], strengths=[one]).predict for one in grid]
    far = [prediction_loss(targets.take(further), fit(x[further])) / FURTHER for fit in fits]
    near = [prediction_loss(targets.take(tuning), fit(x[tuning])) for fit in fits]
    if kind == "regression":
        near = [0.5 * len(tuning) * float(np.log(one / len(tuning))) for one in near]
    cases = deciding_cases(kind, targets.values[tuning, -1])

    def crossed(rows: np.ndarray) -> int:
        part = targets.take(rows)
        return grid.index(cross_validated_strength(linear_walk, x[rows], part, rows)[0])

    asked = dict(zip(grid, near, strict=True))
    chosen = [
        int(np.argmin(near)),
        chosen_strength(grid, asked.__getitem__, cases),
        crossed(train),
        crossed(np.concatenate([train, tuning])),
    ]
    prior = 2 * prior_loss(grid, 0)  # squared decades from the middle
    widths = [int(np.argmin(near + half * prior)) for half in HALF_PRECISIONS]
    return {
        "lost": [far[one] - min(far) for one in chosen],
        "strongest": [float(one == 0) for one in chosen],
        "weaker": [float(one > int(np.argmin(far))) for one in chosen],
        "widths": [far[one] - min(far) for one in widths],
        "cases": cases,
    }


def main() -> None:
    """Run what is not yet kept, and write the page."""
    kept = HERE.with_suffix(".json")
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for kind in KINDS:
        for features in FEATURES:
            for size in SIZES:
                for name, seeds in (("choose", CHOOSE), ("report", REPORT)):
                    key = f"{name} {kind} {features} {size}"
                    if key not in found and (name == "report" or size <= 600):
                        each = [losses(kind, features, size, seed) for seed in seeds]
                        found[key] = {
                            part: np.round([one[part] for one in each], 5).tolist()
                            for part in each[0]
                        }
                        kept.write_text(json.dumps(found) + "\n", encoding="utf-8")
    HERE.with_suffix(".md").write_text(page(found), encoding="utf-8")


def page(found: dict[str, dict[str, list[list[float]]]]) -> str:
    """The page of what was found."""
    rows, widths = [], []
    for key, part in found.items():
        name, kind, features, size = key.split()
        if name == "choose":
            mean = np.mean(part["widths"], axis=0)
            cells = " | ".join(f"{one:.4f}" for one in mean)
            widths.append(f"| {kind} | {features} | {size} | {cells} |")
            continue
        lost = np.array(part["lost"])
        error = lost.std(axis=0, ddof=1) / np.sqrt(len(lost))
        cells = " | ".join(
            f"{lost[:, rule].mean():.4f} ± {error[rule]:.4f} | {np.median(lost[:, rule]):.4f} | "
            f"{100 * np.mean(part['strongest'], axis=0)[rule]:.0f} | "
            f"{100 * np.mean(part['weaker'], axis=0)[rule]:.0f}"
            for rule in range(len(RULES))
        )
        rows.append(f"| {kind} | {features} | {size} | {np.mean(part['cases']):.0f} | {cells} |")
    header = " | ".join(f"{name} | median | strongest % | too weak %" for name in RULES)
    what = "\n".join(f"- {name}: {said}" for name, said in FEATURES.items())
    return f"""# What chooses a penalty

`OMP_NUM_THREADS=1 python benchmarks/evaluation/penalty_choice.py`: {len(REPORT)} simulated cohorts
a line, {FURTHER:,} further people of each judge. 70 % of a cohort are train, 9 % tuning. Every rule
chooses from the same grid, and the fit is on train. Shown is what is lost, mean ± standard error
and median over cohorts: the loss a person (Cox: negative log partial likelihood; logistic: log
loss; ridge: squared error) above that of the best penalty of the grid; how often the strongest
penalty was chosen, under which everybody gets the same; and how often a weaker one than the best.
Features:

{what}

"Weighed" adds to the summed loss of tuning (of numbers: half the rows times the log of the mean
squared error) what a normal prior of the logarithm of the penalty does, one decade wide around the
middle of the grid, where fewer than {ENOUGH} cases decide. "Folds" are 5-fold cross-validation.

{READING}
| outcome | features | people | cases of tuning | {header} |
|---|---|---|---|{"---|---|---|---|" * len(RULES)}
{chr(10).join(rows)}

## The width of the prior

Mean lost over the {len(CHOOSE)} cohorts that the width was chosen on, by half the inverse squared
width (in decades); 0.5 is one decade.

| outcome | features | people | {" | ".join(str(one) for one in HALF_PRECISIONS)} |
|---|---|---|{"---|" * len(HALF_PRECISIONS)}
{chr(10).join(widths)}
"""


if __name__ == "__main__":
    main()
