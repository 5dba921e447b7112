"""The tables and the figure of ``poison.md``, from the rows of the studies of poison.

Each cell: mean over seeds (95 % interval over held-out people, of the mean over seeds; least to
most over seeds). Differences are paired by person and seed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.poison.packed import unpacked
from benchmarks.study import drawn, grid
from medmcl.evaluation.metrics.shares import wilson

DRAWS = 2000
IMPLANTED = 0.2
"""Effect of a trigger above which there is something to cure: attack success less what is told so
without it."""
NEAR = (0.6, 7.0)
"""Points of clean accuracy and attack success within which one label of the figure is enough."""
COLOURS = {"badnet": "#0072B2", "blended": "#D55E00", "sig": "#009E73", "four_corners": "#CC79A7"}
BY_HEAD = ("clean accuracy", "attack success", "without trigger")
Row = Mapping[str, Any]
Said = tuple[np.ndarray, np.ndarray, np.ndarray, int]
Hits = tuple[np.ndarray, np.ndarray]
"""Whether a rate holds of each record that is asked, a line a seed, (seeds, N); whose they are."""
RATES: dict[str, Callable[[Said], tuple[np.ndarray, np.ndarray]]] = {
    "clean accuracy": lambda s: (s[0] == s[2], np.ones(len(s[2]), dtype=bool)),
    "attack success": lambda s: (s[1] == s[3], s[2] != s[3]),
    "without trigger": lambda s: (s[0] == s[3], s[2] != s[3]),
    "poisoned accuracy": lambda s: (s[1] == s[2], np.ones(len(s[2]), dtype=bool)),
}
"""Rate to whether it holds of each record, and of whom it is asked: of what is told clean, told
triggered, true, and the target."""


def said(row: Row, model: str, protocol: str) -> Said | None:
    """Give what a model says of each record; None if it is not there, or was not asked so."""
    asked = row["asked"].get(model, {})
    if protocol not in asked:
        return None
    clean, triggered = (unpacked(one, "u1") for one in asked[protocol])
    truth = unpacked(asked["truth"], "u1")
    return clean, triggered, truth, asked["target"]


def hits(rows: Sequence[Row], model: str, protocol: str, rate: str) -> Hits | None:
    """Give whether the rate holds of each record that is asked; None if it was not asked so."""
    found, people = [], np.zeros(0)
    for row in rows:
        told = said(row, model, protocol)
        if told is None:
            return None
        holds, of = RATES[rate](told)
        found.append(holds[of].astype(np.float64))
        given = row["asked"][model].get("people")
        known = np.arange(len(of)) if given is None else unpacked(given, "<u2")
        people = known[of]
    return (np.stack(found), people) if found else None


def less(one: Hits | None, other: Hits | None) -> Hits | None:
    """Give the difference, record by record."""
    return None if one is None or other is None else (one[0] - other[0], one[1])


def cell(given: Hits | None, sign: str = "") -> str:
    """Write mean, interval over people and range over seeds, in percent."""
    if given is None:
        return ""
    values, people = given
    mean = values.mean(axis=0)
    codes = np.unique(people, return_inverse=True)[1]
    sums, sizes = np.bincount(codes, mean), np.bincount(codes)
    (chosen,) = drawn((len(sums),), DRAWS)
    low, high = 100 * np.percentile(sums[chosen].sum(1) / sizes[chosen].sum(1), [2.5, 97.5])
    if low == high and not sign:  # all alike: Wilson
        low, high = (100 * edge for edge in wilson(float(mean.mean()), len(sums), 0.95))
    seeds = 100 * values.mean(axis=1)
    spread = f"; {seeds.min():{sign}.1f} to {seeds.max():{sign}.1f}" if len(values) > 1 else ""
    return f"{100 * mean.mean():{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f}{spread})"


def by_job(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of each job by seed: clean models first, then by trigger, pool and number of poisons."""
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (_order(row["job"]), row["seed"])):
        found.setdefault(row["job"], []).append(row)
    return found


def _order(job: str) -> tuple[Any, ...]:
    name, *numbers = re.split(r"(\d+)", job)
    is_clean = job.startswith("clean")
    return (not is_clean, name, *reversed([int(one) for one in numbers[::2]]))


def sweep(rows: Sequence[Row]) -> str:
    """How many poisons implant; and how the clean accuracy stands to that of clean models."""
    rates = ("clean accuracy", "attack success", "without trigger")
    ways = {"prompts": "zero_shot", "probe": "linear_probe"}
    jobs = by_job(rows)
    lines = []
    for job, own in jobs.items():
        cells = [cell(hits(own, "victim", way, rate)) for way in ways.values() for rate in rates]
        lines.append([job, str(len(own)), *cells, cell(cost_of(own, jobs), "+")])
    names = [f"{rate}, {name}" for name in ways for rate in rates]
    return grid(["poisons", "seeds", *names, "clean accuracy less clean model's, prompts"], lines)


def victims(rows: Sequence[Row], sweeps: Sequence[Row]) -> str:
    """What the victims of the cures lost of their clean accuracy."""
    jobs = by_job(sweeps)
    lines = []
    for job, own in by_job(rows).items():
        success = cell(hits(own, "victim", "zero_shot", "attack success"))
        lines.append([job, str(len(own)), success, cell(cost_of(own, jobs), "+")])
    return grid(["victim of", "seeds", "attack success, prompts",
                  "clean accuracy less clean model's, prompts"], lines)  # fmt: skip


def cost_of(own: Sequence[Row], jobs: Mapping[str, Sequence[Row]]) -> Hits | None:
    """Give clean accuracy less that of the model of clean data and the same seed, by record.

    Which trigger a clean model is asked about does not matter to what it says of clean records.
    """
    world = own[0]["job"].partition(" of ")[2]
    jobs = {job: rows for job, rows in jobs.items() if job.partition(" of ")[2] == world}
    clean = {row["seed"]: row for job, rows in jobs.items() for row in rows
             if job.startswith("clean")}  # fmt: skip
    if own[0]["job"].startswith("clean") or any(row["seed"] not in clean for row in own):
        return None
    both = (own, [clean[row["seed"]] for row in own])
    return less(*(hits(one, "victim", "zero_shot", "clean accuracy") for one in both))


def cures(rows: Sequence[Row]) -> str:
    """What cures do, by prompts and by heads."""
    lines = []
    for job, own in by_job(rows).items():
        for model in own[0]["asked"]:
            head = head_of(own, model)
            asked = [("zero_shot", rate) for rate in RATES]
            asked += [(head, rate) for rate in BY_HEAD]
            cells = [cell(hits(own, model, way, rate)) for way, rate in asked]
            lines.append([job, model, str(len(own)), *cells, head.replace("_", " ")])
    names = [f"{rate}, prompts" for rate in RATES]
    head_names = [*(f"{rate}, head" for rate in BY_HEAD), "head"]
    return grid(["trigger", "model", "seeds", *names, *head_names], lines)


def head_of(rows: Sequence[Row], model: str) -> str:
    """The head that a model has: its own, or a probe."""
    return "own head" if said(rows[0], model, "own head") is not None else "linear_probe"


def overview(rows: Sequence[Row]) -> str:
    """Attacks by defences: mean attack success and clean accuracy."""
    models = list(dict.fromkeys(model for row in rows for model in row["asked"]))
    lines = []
    for job, own in by_job(rows).items():
        for way in ("prompts", "head"):
            cells = []
            for model in models:
                by = "zero_shot" if way == "prompts" else head_of(own, model)
                both = [hits(own, model, by, rate) for rate in ("attack success", "clean accuracy")]
                means = [f"{100 * one[0].mean():.1f}" for one in both if one is not None]
                cells.append(f"{means[0]} ({means[1]})" if means else "")
            lines.append([job, way, *cells])
    return grid(["trigger", "asked by", *models], lines)


def gaps(rows: Sequence[Row]) -> str:
    """Cured less victim, paired; and the share of the attack success that is gone."""
    lines = []
    for job, own in by_job(rows).items():
        for model in [name for name in own[0]["asked"] if name != "victim"]:
            cells = []
            for ways in (("zero_shot", "zero_shot"), (head_of(own, model), "linear_probe")):
                both = {rate: [hits(own, m, way, rate)
                               for m, way in zip((model, "victim"), ways, strict=True)]
                        for rate in ("clean accuracy", "attack success")}  # fmt: skip
                cells += [cell(less(*pair), "+") for pair in both.values()]
                cells.append(
                    gone(
                        *(
                            effect(own, m, way)
                            for m, way in zip((model, "victim"), ways, strict=True)
                        )
                    )
                )
            lines.append([job, model, *cells])
    names = ("clean accuracy", "attack success", "of the trigger's effect gone")
    return grid(["trigger", "cured by", *(f"{name}, {way}" for way in ("prompts", "head")
                                          for name in names)], lines)  # fmt: skip


def effect(rows: Sequence[Row], model: str, way: str) -> Hits | None:
    """Give attack success less what is told so without the trigger, by record."""
    rates = ("attack success", "without trigger")
    return less(*(hits(rows, model, way, rate) for rate in rates))


def gone(one: Hits | None, other: Hits | None) -> str:
    """Write the share of a trigger's effect that a cure took, where there was some."""
    if one is None or other is None or other[0].mean() <= IMPLANTED:
        return ""
    return f"{100 * (1 - one[0].mean() / other[0].mean()):.0f} %"


def detectors(rows: Sequence[Row]) -> str:
    """How well detectors find the poisoned rows."""
    lines = []
    for job, own in by_job([row for row in rows if "auroc" in row]).items():
        values = {name: [row["auroc"][name] for row in own] for name in own[0]["auroc"]}
        lines.append([job, *(f"{np.mean(v):.2f} ({min(v):.2f} to {max(v):.2f})"
                             for v in values.values())])  # fmt: skip
    names = next((list(row["auroc"]) for row in rows if "auroc" in row), [])
    return grid(["trigger", *names], lines)


def cost(rows: Sequence[Row]) -> str:
    """CPU time of each cure as a share of that of its victim's training."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, seconds in row["cpu_s"].items():
            if name != "victim":
                found.setdefault(name, []).append(seconds / row["cpu_s"]["victim"])
    return grid(["cure", "of the victim's training, median (least to most)"],
                 [[name, f"{np.median(v):.2f} ({min(v):.2f} to {max(v):.2f})"]
                  for name, v in found.items()])  # fmt: skip


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw attack success against the number of poisons, and the trade-off of cures."""
    from matplotlib.figure import Figure

    sweeps, curves = (block(rows, name) for name in ("sweep", "tradeoff"))

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for trigger, colour in COLOURS.items():
        points = [(int(job.split()[1]), own) for job, own in by_job(sweeps).items()
                  if job.startswith(trigger) and " of " not in job]  # fmt: skip
        for rate, line in (("attack success", "-"), ("clean accuracy", ":")):
            values = [hits(own, "victim", "zero_shot", rate) for _, own in points]
            known = [one for one in values if one is not None]
            means = [100 * one[0].mean() for one in known]
            left.plot([count for count, _ in points], means, line, color=colour, marker="o",
                      markersize=3, label=trigger if line == "-" else None)  # fmt: skip
        labelled: list[tuple[float, float]] = []
        for job, own in by_job(curves).items():
            if not job.startswith(trigger):
                continue
            models = list(own[0]["asked"])
            both = ("clean accuracy", "attack success")
            pairs = [[hits(own, m, "zero_shot", rate) for rate in both] for m in models]
            x, y = ([100 * one[k][0].mean() for one in pairs if one[k] is not None] for k in (0, 1))  # type: ignore[index]  # none is missing
            right.plot(x, y, color=colour, marker="o", markersize=3, label=trigger)
            for name, a, b in zip(models, x, y, strict=True):
                if any(abs(a - c) < NEAR[0] and abs(b - d) < NEAR[1] for c, d in labelled):
                    continue
                labelled.append((a, b))
                is_right = trigger != "blended" and name != "victim"
                right.annotate(name.removeprefix("cleanclip "), (a, b), fontsize=6.5, color=colour,
                               xytext=(5, -3) if is_right else (-5, -3), va="baseline",
                               ha="left" if is_right else "right",
                               textcoords="offset points")  # fmt: skip
    right.margins(x=0.16)
    left.set_xscale("log")
    left.set_xlabel("poisoned train pairs")
    left.set_ylabel("%")
    right.set_xlabel("clean accuracy, %")
    right.set_ylabel("attack success, %")
    right.set_title("CleanCLIP's cure at other learning rates", fontsize=9)
    left.set_title("victims: attack success (lines), clean accuracy (dots)", fontsize=9)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(path)


def block(rows: Sequence[Row], name: str) -> list[Row]:
    """Rows of a block of the shapes."""
    return [row for row in rows if row["block"] == name]


def of_shapes(rows: Sequence[Row]) -> dict[str, str]:
    """Every table of the shapes."""
    sweeps, cured, trusted = (block(rows, name) for name in ("sweep", "cures", "trusted"))
    found = {
        "overview": overview(cured),
        "sweep": sweep(sweeps),
        "victims": victims(cured, sweeps),
        "cures": cures(cured),
        "gaps": gaps(cured),
        "trusted": cures(trusted),
        "trusted gaps": gaps(trusted),
        "tradeoff": cures(block(rows, "tradeoff")),
        "detectors": detectors(cured),
        "cost": cost(cured),
    }
    return {f"shapes {name}": text for name, text in found.items()}


def of_cohorts(rows: Mapping[str, Sequence[Row]]) -> dict[str, str]:
    """Every table of the cohorts."""
    found = {}
    for name, own in rows.items():
        most = [row for row in own if len(row["asked"]) > 1]
        found |= {
            f"{name} overview": overview(most),
            f"{name} sweep": sweep([row for row in own if row not in most or "auroc" in row]),
            f"{name} cures": cures(most),
            f"{name} gaps": gaps(most),
            f"{name} detectors": detectors(most),
            f"{name} cost": cost([row for row in most if "auroc" in row]),
        }
    return found
