"""CLAIME's three simulations at full size: where it beats factorising everything, and where not.

    python -m benchmarks.ehr.claime_study WORK [--repetitions 5] [--minutes M]

Err = max over modalities of ||V V' - V* V*'||_F, and the largest sin-theta distance of the column
spaces. E1: n = 2 to 10 x 10^4 at d = 1000; E2: d = 200 to 1000 at n = 10^5; E3: noise c (case 1)
and rho (case 2) at n = 10^5, d = 1000 (and 200, which the paper has not). Half of the d words are
codes, half concepts; p = 4.

Each drawn cohort is a cell of the study, one line of WORK/cells.jsonl; cells that are there are not
made again, so the command goes on where it stopped. The sizes of E1 are the first n patients of one
cohort of 10^5.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ehr.claime_page import draw, frame, parts, summed
from benchmarks.study import Study
from medmcl.cooccurrence import (
    Counts,
    cl,
    claime_pmi,
    concate,
    count_tokens,
    factorise,
    within_only,
)
from medmcl.simulation.ehr.tokens import token_blocks, true_embedding

P, C, RHO = 4, 0.2, 0.8
SIZES = (20_000, 40_000, 60_000, 80_000, 100_000)
WORDS = (200, 400, 600, 800, 1000)
NOISES = {1: (0.2, 0.4, 0.6, 0.8, 1.0), 2: tuple(i / 10 for i in range(10))}
NOISE_WORDS = (200, 1000)
USUAL = {1: C, 2: RHO}
METHODS = ("CLAIME", "CLAIME shrunk", "CLAIME weighted", "Concate", "CL", "within only")
BATCH = 20_000


@dataclass(frozen=True)
class Cell:
    """One cohort: its noise (c in case 1, rho in case 2), its words, and its repetition."""

    case: int
    noise: float
    d: int
    repetition: int

    @property
    def key(self) -> list[Any]:
        """As it stands in the file."""
        return [self.case, self.noise, self.d, self.repetition]


def cells(repetitions: int) -> Iterator[Cell]:
    """All cells, repetition by repetition, so that a study cut short is a study of fewer."""
    for repetition in range(repetitions):
        for case, noises in NOISES.items():
            for d in WORDS:
                yield Cell(case, USUAL[case], d, repetition)
            for noise in noises:
                for d in NOISE_WORDS if noise != USUAL[case] else ():
                    yield Cell(case, noise, d, repetition)


def run_cell(cell: Cell) -> dict[str, Any]:
    """Draw, count and embed; at the usual noise and d = 1000 at every size, else at the last."""
    began = time.process_time()
    half = cell.d // 2
    truth = tuple(true_embedding(half, P, cell.repetition, m) for m in (1, 2))
    looks = SIZES if cell.d == 1000 and cell.noise == USUAL[cell.case] else SIZES[-1:]
    rows, counts, seen = [], None, 0
    for x1, x2 in _batches(cell, truth):
        more = count_tokens(x1, x2, within=True, patients=False)
        counts = more if counts is None else counts + more
        seen += x1.shape[0]
        if seen in looks:
            rows += [{"n": seen, **row} for row in _scores(counts, truth)]
    return {"key": cell.key, "seconds": time.process_time() - began, "rows": rows}


def _batches(cell: Cell, truth: Any) -> Iterator[Any]:
    """Patients in batches of 20,000, cut from the simulator's blocks."""
    from scipy import sparse

    noise = {"c": cell.noise} if cell.case == 1 else {"rho": cell.noise}
    held: list[Any] = []
    size = 0
    for one in token_blocks(SIZES[-1], truth, cell.case, seed=cell.repetition, **noise):
        held.append(one)
        size += one[0].shape[0]
        if size >= BATCH:
            both = [sparse.vstack([h[m] for h in held], format="csr") for m in (0, 1)]
            yield both[0][:BATCH], both[1][:BATCH]
            held, size = [(both[0][BATCH:], both[1][BATCH:])], size - BATCH
    assert size == 0


def _scores(counts: Counts, truth: Any) -> Iterator[dict[str, Any]]:
    pmi = claime_pmi(counts)
    weights = (counts.margins["codes"].pairs, counts.margins["concepts"].pairs)
    found = {
        "CLAIME": factorise(pmi, P),
        "CLAIME shrunk": factorise(pmi, P, shrink=True),
        "CLAIME weighted": factorise(pmi, P, weights=weights),
        "Concate": concate(counts, P),
        "CL": cl(counts, P),
        "within only": within_only(counts, P),
    }
    for method, vectors in found.items():
        yield {
            "method": method,
            "err": max(error(v, t) for v, t in zip(vectors, truth, strict=True)),
            "sine": max(sine(v, t) for v, t in zip(vectors, truth, strict=True)),
        }
    yield {
        "method": "all zeros",
        "err": max(error(0 * t, t) for t in truth),
        "sine": 2.0,
    }


def error(v: np.ndarray, truth: np.ndarray) -> float:
    """Frobenius distance of the Gram matrices, through p x p products."""
    own, shared = v.T @ v, v.T @ truth
    square = (own**2).sum() - 2 * (shared**2).sum() + ((truth.T @ truth) ** 2).sum()
    return float(np.sqrt(max(square, 0.0)))


def sine(v: np.ndarray, truth: np.ndarray) -> float:
    """Frobenius norm of the sines between the column spaces; at most sqrt(p) = 2."""
    basis = [np.linalg.svd(m, full_matrices=False)[0] for m in (v, truth)]
    cosines = np.linalg.svd(basis[0].T @ basis[1], compute_uv=False)
    return float(np.sqrt(np.maximum(1 - np.minimum(cosines, 1) ** 2, 0).sum()))


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("work", type=Path)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after as much CPU time")


def run(given: argparse.Namespace) -> dict[str, Any] | None:
    """Make the cells that are missing, draw all, and sum them up."""
    given.work.mkdir(parents=True, exist_ok=True)
    lines = given.work / "cells.jsonl"
    done = _read(lines)
    for cell in cells(given.repetitions):
        if time.process_time() > 60 * given.minutes:
            break
        if json.dumps(cell.key) in done:
            continue
        made = run_cell(cell)
        done[json.dumps(cell.key)] = made
        with lines.open("a") as file:
            file.write(json.dumps(made) + "\n")
        print(cell, f"{made['seconds']:.0f} s", flush=True)
    missing = sum(json.dumps(cell.key) not in done for cell in cells(given.repetitions))
    if missing:
        print(f"{missing} cells are missing: run it again, which goes on here")
        return None
    given.out.mkdir(parents=True, exist_ok=True)
    draw(frame(done), given.out / "claime.svg")
    return summed(done)


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    made = [json.loads(line) for line in path.read_text().splitlines()]
    return {json.dumps(one["key"]): one for one in made}


STUDY = Study(__file__, parts=parts, run=run, options=options, page="claime")

if __name__ == "__main__":
    STUDY.main()
