"""What privacy costs the embedding, and what it buys against someone who traces a patient.

    python -m benchmarks.ehr.cooccurrence_privacy [--quick]

Three figures go to ``docs/figures``. Patients are
simulated as in Cai et al. (arXiv 2403.14926), case 2; Err is their error of the embedding. Noise
comes from the operating system, so figures under noise move a little from run to run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.ehr.record_tracing import largest_advantage, trace_scores, traced
from benchmarks.study import ROOT, Row, Study, grid, number, table
from medmcl.cooccurrence import Vocabulary, count_tokens
from medmcl.cooccurrence.count.counts import Counts
from medmcl.cooccurrence.count.tokens import whole
from medmcl.cooccurrence.embed.factorise import factorise
from medmcl.cooccurrence.embed.pmi import linear_pmi
from medmcl.cooccurrence.release.censored import fill_censored
from medmcl.cooccurrence.release.clipping import clip_rows
from medmcl.cooccurrence.release.ledger import Ledger
from medmcl.cooccurrence.release.private import release_private
from medmcl.cooccurrence.release.register import Register
from medmcl.cooccurrence.release.release import release_threshold

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = ROOT / "docs" / "figures"
RANK, DELTA = 4, 1e-6
SITES, BELOW = (1, 10, 20, 50, 100, 200), (5, 11, 20)
EPSILONS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
LOOK = {
    "summed first, then suppressed": ("#0072B2", "-"),
    "pooled, nothing suppressed": ("#000000", ":"),
    "each site alone, absent = expected below threshold": ("#009E73", "-"),
    "each site alone, absent = independence, capped": ("#E69F00", "-"),
    "each site alone, absent = 0": ("#D55E00", "-"),
    "knows nothing (all zero)": ("#888888", "--"),
}
Tables = tuple[np.ndarray, np.ndarray]


def simulate(n: int, d: int, tokens: float, seed: int) -> tuple[Tables, Tables]:
    """Token counts of two modalities (n, d), and their true vectors (d, RANK); case 2, rho .8."""
    generator = np.random.default_rng(seed)
    state = generator.normal(size=(n, RANK))
    tables, truth = [], []
    for _ in range(2):
        v = generator.normal(size=(d, RANK))
        u, s, _ = np.linalg.svd(v - v.mean(axis=0), full_matrices=False)
        v = u * (s / s[0])
        noise = generator.normal(size=(n, d))
        for k in range(1, d):
            noise[:, k] = 0.8 * noise[:, k - 1] + 0.6 * noise[:, k]
        weight = np.exp(state @ v.T + noise * generator.uniform(size=d) / np.sqrt(2))
        weight *= tokens / weight.sum(axis=1, keepdims=True)
        tables.append(generator.poisson(weight))
        truth.append(v)
    return (tables[0], tables[1]), (truth[0], truth[1])


def capped(cells: np.ndarray, cap: float) -> np.ndarray:
    """The simpler rule: absent cells at what independence gives, but no more than the cap."""
    absent, filled = cells == 0, cells.astype(float)
    for _ in range(200):
        rows, columns = filled.sum(axis=1), filled.sum(axis=0)
        expected = np.minimum(np.outer(rows, columns) / max(rows.sum(), 1e-300), cap)
        filled[absent] = expected[absent]
    return filled


def err(cells: np.ndarray, truth: Tables) -> float:
    """The paper's error of the embedding that these cells give; nothing left embeds as zeros."""
    if not cells.any():
        return nothing(truth)
    vectors = factorise(linear_pmi(cells), RANK)
    return max(
        float(np.linalg.norm(a @ a.T - v @ v.T)) for a, v in zip(vectors, truth, strict=True)
    )


def nothing(truth: Tables) -> float:
    return max(float(np.linalg.norm(v @ v.T)) for v in truth)


def counted(x: Tables) -> Counts:
    words = {
        name: Vocabulary(tuple(f"{name}:{i}" for i in range(table.shape[1])), "simulated")
        for name, table in zip(("codes", "concepts"), x, strict=True)
    }
    return count_tokens(*x, vocabularies=words)


def released(counts: Counts, below: int) -> tuple[np.ndarray, float]:
    """Cells of a release, zeros where absent, and the pairs that a patient adds to one."""
    if counts.cross().patients.max() < below:
        return np.zeros(counts.D.shape), 1.0
    block = release_threshold(
        counts, below, public_vocabulary=True, largest_share=1
    ).counts.cross()  # the threshold alone is what is looked at
    return block.pairs.toarray().astype(float), float(block.pairs_per_patient or 1)


def suppression(n: int, d: int, seeds: int, below: tuple[int, ...]) -> dict:
    """Err against the number of sites, for each threshold and way, mean and spread over seeds."""
    found: dict[tuple[int, int, str], list[float]] = defaultdict(list)
    for seed in range(seeds):
        x, truth = simulate(n, d, 5, seed)
        pooled = counted(x)
        for sites in SITES:
            parts = np.array_split(np.arange(n), sites)
            counts = [counted((x[0][rows], x[1][rows])) for rows in parts]
            assert (sum(counts).D != pooled.D).nnz == 0
            for limit in below:
                alone = [released(one, limit) for one in counts]
                together, mean_pairs = released(pooled, limit)
                ways = {
                    "pooled, nothing suppressed": pooled.D.toarray().astype(float),
                    "summed first, then suppressed": fill_censored(together, limit, mean_pairs),
                    "each site alone, absent = expected below threshold": sum(
                        fill_censored(cells, limit, one) for cells, one in alone
                    ),
                    "each site alone, absent = independence, capped": sum(
                        capped(cells, (limit - 1) * one) for cells, one in alone
                    ),
                    "each site alone, absent = 0": sum(cells for cells, _ in alone),
                }
                for way, cells in ways.items():
                    found[limit, sites, way].append(err(cells, truth))
                found[limit, sites, "knows nothing (all zero)"].append(nothing(truth))
                absent = np.mean([(cells == 0).mean() for cells, _ in alone])
                found[limit, sites, "absent"].append(float(absent))
    return found


def lengths(x: Tables) -> tuple[int, int]:
    """Clip constants: the median length, of other patients than those that are released."""
    medians = [np.median(np.sqrt((table.astype(float) ** 2).sum(axis=1))) for table in x]
    return round(float(medians[0])), round(float(medians[1]))


def noise(sizes: tuple[tuple[int, int], ...], seeds: int) -> dict:
    """Err against epsilon for each (patients, tokens of both modalities)."""
    found: dict[tuple[tuple[int, int], object], list[float]] = defaultdict(list)
    for n, d in sizes:
        for seed in range(seeds):
            x, truth = simulate(n, d // 2, 50, seed)
            clip = lengths(
                tuple(table[: n // 100] for table in simulate(n // 50, d // 2, 50, 99)[0])
            )
            found[(n, d), "exact"].append(err(counted(x).D.toarray().astype(float), truth))
            short = [clip_rows(whole(t, "x"), b, 16) for t, b in zip(x, clip, strict=True)]
            found[(n, d), "clipped"].append(err((short[0].T @ short[1]).toarray() / 256, truth))
            found[(n, d), "nothing"].append(nothing(truth))
            for epsilon in EPSILONS:
                cells = private(x, clip, epsilon)
                found[(n, d), epsilon].append(err(cells, truth))
    return found


def private(x: Tables, clip: tuple[int, int], epsilon: float) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.start(
            Path(folder) / "ledger.json",
            epsilon=epsilon * 1.001,
            delta=DELTA,
            register=Register(Path(folder) / "register"),
        )
        release = release_private(
            *x, vocabularies=counted((x[0][:1], x[1][:1])).vocabularies, clip=clip,
            epsilon=epsilon, delta=DELTA, ledger=ledger,
        )  # fmt: skip
    return release.counts.D.toarray().astype(float)


def tracing(sizes: tuple[int, ...], d: int, epsilons: tuple[float, ...], seeds: int) -> dict:
    """AUC and advantage of the attack for each number of patients and protection."""
    found: dict[tuple[int, str], list[tuple[float, float]]] = defaultdict(list)
    for seed in range(seeds):
        many, _ = simulate(2 * max(sizes) + 20_000, d, 10, seed)
        reference = tuple(table[2 * max(sizes) :] for table in many)
        whole_cells = (reference[0].T @ reference[1]).astype(float)
        for n in sizes:
            members = tuple(table[:n] for table in many)
            others = tuple(table[n : 2 * n] for table in many)
            expected = whole_cells * (n / 20_000)
            counts = counted((members[0], members[1]))
            kept, _ = released(counts, 11)
            cells = {
                "exact": counts.D.toarray().astype(float),
                "threshold 11": np.where(kept > 0, kept, np.nan),
                **{
                    f"epsilon {e:g}": private((members[0], members[1]), (5, 5), e) for e in epsilons
                },
            }
            for name, one in cells.items():
                scores = [trace_scores(one, expected, *who) for who in (members, others)]
                result = traced(*scores)
                found[n, name].append((result.auc, result.advantage))
            for e in epsilons:
                result = everyone_else_known((members[0], members[1]), e)
                found[n, f"epsilon {e:g}, all others known"].append((result.auc, result.advantage))
            told = np.nansum(np.isfinite(cells["threshold 11"])) / cells["exact"].size
            found[n, "share released at threshold 11"].append((float(told), 0.0))
    return found


def everyone_else_known(x: Tables, epsilon: float):
    """The strongest attacker: knows all other patients, asks only whether one is in."""
    short = [clip_rows(whole(t, "x"), 5, 16).toarray() / 16 for t in x]
    exact = short[0].T @ short[1]
    with_all, without = private(x, (5, 5), epsilon) - exact, private(x, (5, 5), epsilon) - exact
    size = (short[0] ** 2).sum(axis=1) * (short[1] ** 2).sum(axis=1)
    lean = [((short[0] @ one) * short[1]).sum(axis=1) for one in (with_all, without)]
    length = np.sqrt(np.maximum(size, 1e-12))
    return traced((lean[0] + size) / length, lean[1] / length)


def draw(found: dict, noisy: dict, attack: dict, below: tuple[int, ...]) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams.update({"font.size": 9, "svg.hashsalt": "medmcl", "axes.spines.top": False,
                         "axes.spines.right": False})  # fmt: skip
    FIGURES.mkdir(exist_ok=True)
    draw_suppression(found, below)
    draw_noise(noisy)
    draw_tracing(attack)


def draw_suppression(found: dict, below: tuple[int, ...]) -> None:
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(below), figsize=(3.1 * len(below), 3.2), sharey=True,
                                  layout="constrained", squeeze=False)  # fmt: skip
    for axes, limit in zip(panels[0], below, strict=True):
        for way, (color, style) in LOOK.items():
            values = np.array([found[limit, sites, way] for sites in SITES])
            axes.plot(SITES, values.mean(axis=1), style, color=color, marker="o", markersize=3,
                      label=way)  # fmt: skip
            axes.fill_between(SITES, values.min(axis=1), values.max(axis=1), color=color, alpha=0.2,
                              linewidth=0)  # fmt: skip
        axes.set(xscale="log", yscale="log", title=f"cells below {limit} patients absent",
                 xlabel="sites (the same patients in all)")  # fmt: skip
        axes.set_xticks(SITES, [str(s) for s in SITES])
        axes.minorticks_off()
    panels[0][0].set_ylabel("Err of the embedding")
    panels[0][0].set(ylim=(0.5, 40))  # what lies above says nothing more
    panels[0][0].set_yticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3,
                  frameon=False)  # fmt: skip
    save(figure, "cooccurrence_suppression")


def draw_noise(noisy: dict) -> None:
    from matplotlib import pyplot as plt

    sizes = sorted({size for size, _ in noisy}, key=lambda size: (size[1], size[0]))
    figure, panels = plt.subplots(1, len(sizes), figsize=(3.1 * len(sizes), 3.0), sharey=True,
                                  layout="constrained", squeeze=False)  # fmt: skip
    for axes, size in zip(panels[0], sizes, strict=True):
        values = np.array([noisy[size, e] for e in EPSILONS])
        axes.plot(EPSILONS, values.mean(axis=1), color="#0072B2", marker="o", markersize=3,
                  label="released with noise")  # fmt: skip
        axes.fill_between(EPSILONS, values.min(axis=1), values.max(axis=1), color="#0072B2",
                          alpha=0.2, linewidth=0)  # fmt: skip
        for name, label, color, style in (
            ("clipped", "clipped, no noise", "#009E73", "--"),
            ("exact", "exact", "#000000", ":"),
            ("nothing", "knows nothing (all zero)", "#888888", "--"),
        ):
            axes.axhline(np.mean(noisy[size, name]), color=color, linestyle=style, label=label)
        axes.set(xscale="log", yscale="log", xlabel="epsilon (delta 1e-6)",
                 title=f"{size[0]:,} patients, {size[1]} tokens")  # fmt: skip
        axes.set_xticks(EPSILONS, [f"{e:g}" for e in EPSILONS])
        axes.minorticks_off()
    panels[0][0].set_ylabel("Err of the embedding")
    panels[0][0].set_yticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2,
                  frameon=False)  # fmt: skip
    save(figure, "cooccurrence_epsilon")


def draw_tracing(attack: dict) -> None:
    from matplotlib import pyplot as plt

    sizes = sorted({n for n, _ in attack})
    names = [name for n, name in attack if n == sizes[0] and not name.startswith("share")]
    colors = {"exact": "#000000", "threshold 11": "#D55E00"}
    blues = iter(("#9ecae1", "#4292c6", "#08519c"))
    figure, axes = plt.subplots(figsize=(6.6, 3.2), layout="constrained")
    for name in names:
        base = name.split(",")[0]
        if base not in colors:
            colors[base] = next(blues)
        values = np.array([[auc for auc, _ in attack[n, name]] for n in sizes])
        known = "known" in name
        axes.plot(sizes, values.mean(axis=1), "--" if known else "-", color=colors[base],
                  marker="s" if known else "o", markersize=3, label=name)  # fmt: skip
    axes.axhline(0.5, color="#888888", linewidth=0.8)
    axes.set(xscale="log", xlabel="patients in the release", ylim=(0.4, 1.02),
             ylabel="AUC of telling members\nfrom others (0.5: guessing)")  # fmt: skip
    axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axes.minorticks_off()
    figure.legend(loc="outside right upper", frameon=False)
    save(figure, "cooccurrence_tracing")


def save(figure: Figure, name: str) -> None:
    from matplotlib import pyplot as plt

    figure.savefig(FIGURES / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def mean(values: list[float]) -> float:
    return float(np.mean(values))


def parts(rows: dict[str, Any]) -> dict[str, str]:
    """The figures as tables."""
    lost = {"below": "below", "sites": "sites", "cells absent": number("absent", ".0%")}
    keys = ["exact", "clipped", *(f"eps {e:g}" for e in EPSILONS[::-1]), "nothing"]
    size = {"patients, tokens": lambda row: f"{row['patients']:,}, {row['tokens']}"}
    traces = []
    counts = [key for key in rows["tracing"][0] if key != "release"]
    for row in rows["tracing"]:
        pairs = [row[key] for key in counts]
        cells = [f"{p[0]:.2f} ({p[1]:.2f})" if len(p) > 1 else f"{p[0]:.0%}" for p in pairs]
        traces.append([row["release"], *cells])
    heads = [f"{int(key):,} patients" for key in counts]
    bounds = ", ".join(f"{bound:.2f} at {e}" for e, bound in rows["bounds"].items())
    return {
        "suppression": table({**lost, **{w: number(w, ".2f") for w in LOOK}}, rows["suppression"]),
        "noise": table({**size, **{key: number(key, ".2f") for key in keys}}, rows["noise"]),
        "tracing": grid(["AUC (advantage)", *heads], traces),
        "bounds": bounds,
        "took": f"{rows['cpu_s']:.0f} CPU seconds, {rows['seeds']} seeds",
    }


def run(given: argparse.Namespace) -> dict[str, Any]:
    quick, began = given.quick, time.process_time()
    seeds = 1 if quick else 3
    below = BELOW[1:2] if quick else BELOW
    sizes = ((5_000, 100),) if quick else ((50_000, 100), (100_000, 200))
    people = (300, 1000) if quick else (300, 1000, 3000, 10_000)
    found = suppression(5_000 if quick else 100_000, 50, seeds, below)
    noisy = noise(sizes, seeds)
    attack = tracing(people, 100, (1.0, 4.0, 8.0), seeds)
    seconds = time.process_time() - began
    if not quick:
        draw(found, noisy, attack, below)
    lost: list[Row] = [
        {"below": limit, "sites": sites, "absent": mean(found[limit, sites, "absent"]),
         **{way: mean(found[limit, sites, way]) for way in LOOK}}
        for limit in below for sites in SITES
    ]  # fmt: skip
    names = {"exact": "exact", "clipped": "clipped"}
    names |= {e: f"eps {e:g}" for e in EPSILONS[::-1]} | {"nothing": "nothing"}
    noises: list[Row] = [
        {
            "patients": n,
            "tokens": d,
            **{name: mean(noisy[(n, d), key]) for key, name in names.items()},
        }
        for n, d in sizes
    ]
    traces: list[Row] = []
    for name in [name for n, name in attack if n == people[0]]:
        pairs = {str(n): np.mean(attack[n, name], axis=0).tolist() for n in people}
        share = name.startswith("share")
        traces.append({"release": name, **{n: p[:1] if share else p for n, p in pairs.items()}})
    bounds = {f"{e:g}": largest_advantage(e, DELTA) for e in (1.0, 4.0, 8.0)}
    told = {"bounds": bounds, "cpu_s": seconds, "seeds": seeds}
    return {"suppression": lost, "noise": noises, "tracing": traces, **told}


STUDY = Study(__file__, parts=parts, run=run, quick=True)

if __name__ == "__main__":
    STUDY.main()
