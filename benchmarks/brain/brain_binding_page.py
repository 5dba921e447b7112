"""Rows, tables and figure of `brain_binding`, from its cells. No person's prediction is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study import Row, number, table
from medmcl.core.rng import torch_generator
from medmcl.evaluation import Resampling, auroc, bootstrap, paired_difference

OURS = "AutoBIND"
DRAWS = 1000
TITLES = {
    "oasis1": "OASIS-1: dementia (CDR above 0)",
    "abide": "ABIDE I: autism, whole sites held out",
}
DRAWN = (OURS, "full graph", "stars, mean", "CLIP on the best pair", "untrained towers",
         "early fusion, logistic")  # fmt: skip


def parts(rows: Mapping[str, Any]) -> dict[str, str]:
    nothing = {
        "rows": "rows",
        "mean, nats": number("mean", ".3f"),
        "above 0.05": number("above", ".0%"),
        "95th percentile": number("high", ".3f"),
    }
    found = {"score of nothing": table(nothing, rows["nothing"])}
    for name in TITLES:
        one = rows[name]
        found |= {f"{name} methods": methods_table(one), f"{name} removed": removed_table(one),
                  f"{name} edges": edges(one)}  # fmt: skip
    return found


def score_of_nothing(draws: int = 1000) -> list[Row]:
    """The calibrated score of points that have nothing in common, by rows."""
    import torch

    from medmcl.objectives.pairs.learned_pairs import mutual_information

    told = []
    for rows in (16, 24, 32, 64, 150):
        generator = torch_generator(0, "nothing", rows, device="cpu")
        drawn = torch.randn(draws, 2, rows, 16, generator=generator)
        found = np.array([mutual_information(a, b) for a, b in drawn])
        above, high = float((found > 0.05).mean()), float(np.quantile(found, 0.95))
        told.append({"rows": rows, "mean": float(found.mean()), "above": above, "high": high})
    return told


def summary(people: Any, cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """AUROC, intervals, differences and graphs of each share of entries removed.

    Scored are those who had a scan before any was removed: in OASIS nobody without one is ill.
    """
    scan = people.present[next(iter(people.layout.components))][people.labelled]
    asked = people.labelled[scan]
    y, ids, units = people.targets.values[asked, 0], people.subjects[asked], people.units[asked]
    found: dict[str, Any] = {
        "people": len(people.subjects), "rated": len(scan), "scored": len(y),
        "positive": int(y.sum()),
        "sites": len(set(units)) if len(set(units)) < len(y) else None,
        "cpu_s": round(sum(one["cpu_s"] for one in cells)), "shares": {},
    }  # fmt: skip
    for share in sorted({one["key"][0] for one in cells}):
        mine = sorted((one for one in cells if one["key"][0] == share), key=lambda c: c["key"][1])
        by_repeat = {m: [np.array(one["order"][m])[scan] for one in mine] for m in mine[0]["order"]}
        ours = np.mean(by_repeat[OURS], axis=0)
        rows = {}
        for method, orders in by_repeat.items():
            order = np.mean(orders, axis=0)
            single = [float(auroc(y, one)) for one in orders]
            each = Resampling(ids, draws=DRAWS).sample("auroc", (y,), orders)
            row = {"auroc": _span(bootstrap("auroc", y, order, ids, draws=DRAWS)),
                   "of_a_repeat": _span(each.interval()),
                   "repeats": [round(f(single), 4) for f in (min, max)]}  # fmt: skip
            if method != OURS:
                gap = paired_difference("auroc", y, ours, order, ids, draws=DRAWS)
                row["gain"] = _span(gap)
                gap = paired_difference("auroc", y, by_repeat[OURS], orders, ids, draws=DRAWS)
                row["gain_of_a_repeat"] = _span(gap)
                if found["sites"]:
                    over = paired_difference("auroc", y, ours, order, units, draws=DRAWS)
                    row["gain_over_sites"] = _span(over)[1:]
            rows[method] = row
        graphs = [graph for one in mine for graph in one["graphs"]]
        found["shares"][f"{share:g}"] = {
            "repeats": len(mine), "methods": rows, "graphs": _graphs(graphs),
        }  # fmt: skip
    return found


def _span(interval: Any) -> list[float]:
    return [round(float(x), 4) for x in (interval.value, interval.low, interval.high)]


def _graphs(graphs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How often each edge, best pair and isolated modality came, and scores after the warm-up."""
    scores: dict[str, list[float]] = {}
    for graph in graphs:
        for pair, score in graph["after_warm_up"].items():
            scores.setdefault(pair, []).extend([] if score is None else [score])
    learned = [graph for graph in graphs if graph["phase"] == "learned"]
    return {
        "folds": len(graphs),
        "without_an_edge": len(graphs) - len(learned),
        "edges": dict(Counter(e for graph in learned for e in graph["edges"])),
        "isolated": dict(Counter(e for graph in learned for e in graph["isolated"])),
        "best_pair": dict(Counter("~".join(graph["best_pair"]) for graph in graphs)),
        "by_rows": sum(graph["best_pair_by"] == "rows" for graph in graphs),
        "score": {
            pair: [round(float(f(x)), 3) for f in (np.median, np.min, np.max)] if x else None
            for pair, x in scores.items()
        },
        "scored": {pair: len(x) for pair, x in scores.items()},
    }


def _shown(span: Sequence[float], sign: str = "") -> str:
    value, low, high = (f"{x:{sign}.3f}" for x in span)
    return f"{value} ({low} to {high})"


def methods_table(one: Mapping[str, Any]) -> str:
    """Everything with all entries there."""
    part = one["shares"]["0"]
    over = "| over sites " if one["sites"] else ""
    lines = [
        f"| method | AUROC | single repeats | AutoBIND minus it {over}|",
        "|---|---|---|---|" + ("---|" if over else ""),
    ]
    for method, row in part["methods"].items():
        gain = _shown(row["gain"], "+") if "gain" in row else ""
        low, high = row["repeats"]
        site = row.get("gain_over_sites")
        wide = f" {site[0]:+.3f} to {site[1]:+.3f} |" if site else " |" if over else ""
        said = f"| {method} | {_shown(row['auroc'])} | {low:.3f} to {high:.3f} |"
        lines.append(f"{said} {gain} |{wide}")
    return "\n".join(lines)


def removed_table(one: Mapping[str, Any]) -> str:
    """AUROC and AutoBIND's gain at every share that was run."""
    shares = list(one["shares"])
    heads = [f"{float(s):.0%} ({one['shares'][s]['repeats']} x 5 folds)" for s in shares]
    lines = ["| method | " + " | ".join(heads) + " |", "|---" * (len(shares) + 1) + "|"]
    for method in one["shares"][shares[-1]]["methods"]:
        cells = []
        for share in shares:
            row = one["shares"][share]["methods"][method]
            gain = f"; {_shown(row['gain_of_a_repeat'], '+')}" if "gain" in row else ""
            cells.append(f"{row['of_a_repeat'][0]:.3f}{gain}")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def edges(one: Mapping[str, Any]) -> str:
    """Of how many folds each pair was an edge of the last tree and the best pair; its score."""
    parts = {share: part["graphs"] for share, part in one["shares"].items()}
    heads = [f"{float(s):.0%}: edge, best pair, of {g['folds']}" for s, g in parts.items()]
    lines = ["| pair | nats after the warm-up, 0% | " + " | ".join(heads) + " |",
             "|---" * (len(heads) + 2) + "|"]  # fmt: skip
    whole = parts["0"]
    for pair in sorted(whole["score"], key=lambda p: -(whole["score"][p] or [0.0])[0]):
        score = whole["score"][pair]
        said = "no score" if score is None else f"{score[0]:.2f} ({score[1]:.2f} to {score[2]:.2f})"
        cells = [
            f"{g['edges'].get(pair, 0)}, {g['best_pair'].get(pair, 0)}" for g in parts.values()
        ]
        lines.append(f"| {pair} | {said} | " + " | ".join(cells) + " |")
    none = [str(g["without_an_edge"]) for g in parts.values()]
    lines.append("| no edge at all: every pair aligned | | " + " | ".join(none) + " |")
    lone = [
        ", ".join(f"{n} {k}" for n, k in sorted(g["isolated"].items())) or "none"
        for g in parts.values()
    ]
    lines.append("| isolated modalities | | " + " | ".join(lone) + " |")
    return "\n".join(lines)


def draw(rows: Mapping[str, Any], path: Path) -> None:
    """AUROC against the share of entries removed, a panel a cohort."""
    from medmcl.evaluation.report.pictures import COLOURS, MARKERS, PAGE, canvas, style

    found = {name: rows[name] for name in TITLES}
    with style():
        figure, grid = canvas(PAGE, 3.4, columns=len(found))
        for axes, (name, one) in zip(grid[0], found.items(), strict=True):
            shares = list(one["shares"])
            x = [100 * float(share) for share in shares]
            for place, method in enumerate(DRAWN):
                rows = [_of(one["shares"][share]["methods"], method) for share in shares]
                axes.plot(x, [row[0] for row in rows], color=COLOURS[place], marker=MARKERS[place],
                          markersize=4, label=method)  # fmt: skip
                if method == OURS:
                    axes.fill_between(x, [r[1] for r in rows], [r[2] for r in rows], alpha=0.12,
                                      color=COLOURS[place], linewidth=0)  # fmt: skip
            axes.axhline(0.5, color="#888888", linewidth=0.8, linestyle=":")
            axes.set_title(TITLES[name], fontsize=9)
            axes.set_xticks(x, [f"{share:.0f}" for share in x])
            axes.set_xlabel("entries removed, %")
        grid[0, 0].set_ylabel("AUROC")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def _of(methods: Mapping[str, Any], method: str) -> Sequence[float]:
    if method != "stars, mean":
        return methods[method]["of_a_repeat"]
    stars = [row["of_a_repeat"] for name, row in methods.items() if name.startswith("star on ")]
    return np.mean(stars, axis=0).tolist()
