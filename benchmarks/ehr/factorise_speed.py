"""CPU seconds of the 300 leading singular triplets of a 5000 x 5000 association matrix.

    python -m benchmarks.ehr.factorise_speed [--size 5000] [--rank 300] [--gensim PYTHON]

Single-threaded processor time, one run each, against the peers that a user would take: numpy, scipy
(ARPACK), scikit-learn (TruncatedSVD as it comes and with ARPACK; its randomised SVD at the first
number of power iterations that is exact enough), gensim's LsiModel as it comes and with more power
iterations. gensim runs in an interpreter that has it. A peer counts if its singular values agree
with LAPACK's to 1e-3. Two spectra: ``flat``, the positive PMI of counts without structure, on which
any iteration is slowest, and ``falling``, 400 dimensions whose sizes fall.
"""

from __future__ import annotations

import os

os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
)

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.study import Row, Study, number, table
from medmcl.cooccurrence.embed.pmi import log_pmi
from medmcl.cooccurrence.embed.svd import truncated_svd

ENOUGH = 1e-3
POWERS = (4, 7, 12, 20, 30, 45)
GENSIM_POWERS = (2, 10)
GENSIM = """
import sys, time
import numpy as np
from gensim.models import LsiModel
from scipy.sparse import csc_matrix
path, rank, powers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
matrix = csc_matrix(np.load(path))
words = {i: str(i) for i in range(matrix.shape[0])}
began = time.process_time()
model = LsiModel(matrix, num_topics=rank, id2word=words, power_iters=powers, random_seed=0)
seconds = time.process_time() - began
np.save(path, np.r_[seconds, model.projection.s])
"""


def flat(size: int, rng: np.random.Generator) -> np.ndarray:
    """Positive log PMI of independent counts."""
    return log_pmi(rng.poisson(20.0, (size, size)), positive=True)


def falling(size: int, rng: np.random.Generator) -> np.ndarray:
    """400 dimensions of size k^-0.7 and noise a fifth of the last."""
    rank = min(400, size // 2)
    u, v = (np.linalg.qr(rng.standard_normal((size, rank)))[0] for _ in range(2))
    sizes = np.arange(1, rank + 1) ** -0.7
    noise = 0.2 * sizes[-1] / (2 * np.sqrt(size))
    return (u * sizes) @ v.T + noise * rng.standard_normal((size, size))


def timed(solve: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    began = time.process_time()
    values = solve()
    return time.process_time() - began, values


def peers(matrix: np.ndarray, rank: int) -> dict[str, Callable[[], np.ndarray]]:
    from scipy.sparse.linalg import svds
    from sklearn.decomposition import TruncatedSVD
    from sklearn.utils.extmath import randomized_svd

    def arpack() -> np.ndarray:
        return np.sort(svds(matrix, k=rank, v0=np.ones(len(matrix)), solver="arpack")[1])[::-1]

    def power(steps: int) -> Callable[[], np.ndarray]:
        return lambda: randomized_svd(matrix, rank, n_iter=steps, random_state=0)[1]

    def truncated(algorithm: str) -> Callable[[], np.ndarray]:
        solver = TruncatedSVD(rank, algorithm=algorithm, random_state=0)
        return lambda: solver.fit(matrix).singular_values_

    return {
        "numpy.linalg.svd": lambda: np.linalg.svd(matrix, full_matrices=False)[1][:rank],
        **{f"sklearn randomized_svd, n_iter {n}": power(n) for n in POWERS},
        "scipy svds (ARPACK)": arpack,
        "sklearn TruncatedSVD (randomised, n_iter 5: as it comes)": truncated("randomized"),
        "sklearn TruncatedSVD (ARPACK)": truncated("arpack"),
    }


def by_gensim(python: str, matrix: np.ndarray, rank: int, powers: int) -> tuple[float, np.ndarray]:
    """Seconds and singular values of gensim's LsiModel on the same numbers as a sparse matrix."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "matrix.npy"
        np.save(path, matrix)
        command = [python, "-c", GENSIM, str(path), str(rank), str(powers)]
        subprocess.run(command, check=True)
        seconds, *values = np.load(path)
    return float(seconds), np.array(values)


def rows(matrix: np.ndarray, rank: int, gensim: str | None) -> list[tuple[str, float, float]]:
    """Name, seconds, largest relative error of a singular value."""
    contestants = peers(matrix, rank)
    seconds, truth = timed(contestants.pop("numpy.linalg.svd"))
    found = [("numpy.linalg.svd", seconds, 0.0)]
    seconds, values = timed(lambda: truncated_svd(matrix, rank)[1])
    found.append(("**medmcl**", seconds, float(np.abs(values / truth - 1).max())))
    done = False
    for name, solve in contestants.items():
        if "randomized_svd" in name and done:
            continue
        seconds, values = timed(solve)
        error = float(np.abs(values / truth - 1).max())
        done = done or ("randomized_svd" in name and error <= ENOUGH)
        found.append((name, seconds, error))
        print(found[-1], flush=True)
    for powers in GENSIM_POWERS if gensim else ():
        seconds, values = by_gensim(gensim, matrix, rank, powers)
        error = float(np.abs(values / truth - 1).max())
        note = ": as it comes" if powers == GENSIM_POWERS[0] else ""
        found.append((f"gensim LsiModel (power_iters {powers}{note})", seconds, error))
        print(found[-1], flush=True)
    return found


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=5000)
    parser.add_argument("--rank", type=int, default=300)
    parser.add_argument("--gensim", help="Python interpreter that has gensim.")


def parts(found: dict[str, list[Row]]) -> dict[str, str]:
    columns = {"": "solver", "CPU s": number("seconds", ".1f"), "error": number("error", ".1e")}
    told = {}
    for name, solvers in found.items():
        ours = next(row["seconds"] for row in solvers if "medmcl" in row["solver"])
        exact = [r for r in solvers if "medmcl" not in r["solver"] and r["error"] <= ENOUGH]
        told[name] = table(columns, solvers)
        told[f"{name} ratio"] = f"{ours / min(row['seconds'] for row in exact):.2f}"
    return told


def run(given: argparse.Namespace) -> dict[str, list[Row]]:
    found = {}
    for name, make in (("flat", flat), ("falling", falling)):
        made = rows(make(given.size, np.random.default_rng(0)), given.rank, given.gensim)
        found[name] = [{"solver": who, "seconds": s, "error": error} for who, s, error in made]
    return found


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
