"""Empirical epsilon: what somebody can tell of one patient from 10,000 releases with and without them.

    python -m benchmarks.privacy.empirical_epsilon [--releases N] [--quick]

Two neighbouring tables are released 10,000 times each. Somebody who knows both chooses, on half of
the releases, the number of a release (a cell, a margin, a chosen bound, a weighted sum of them) and
the limit that tell the tables apart best, and is judged on the other half: epsilon is at least
log((true positives - delta) / false positives), with the lower and the upper end of their 97.5 %
Clopper-Pearson intervals. It must not exceed the claim. Broken mechanisms must.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
from scipy.stats import beta

from benchmarks.study import Row, Study, number, table
from medmcl.cooccurrence import Vocabulary
from medmcl.cooccurrence.exchange.manifest import SpentKeys
from medmcl.cooccurrence.release import clipping, private
from medmcl.cooccurrence.release.accounting import add_noise
from medmcl.cooccurrence.release.clipping import PrivateQuantile
from medmcl.cooccurrence.release.ledger import Ledger

DELTA, CLIP = 1e-6, 2
WORDS = {name: Vocabulary((f"{name}:0", f"{name}:1"), "public") for name in ("codes", "concepts")}
Tables = tuple[np.ndarray, np.ndarray]


class Paid(Ledger):
    """A ledger that pays for everything: what is looked at is one release, many times."""

    def charge(self, what: str, rho: float, people: object = ()) -> SpentKeys:  # noqa: ARG002 - as a ledger is asked
        """Nothing is entered."""
        return SpentKeys(releases=1, rho=rho, epsilon=99.0, delta=DELTA)


LEDGER = Paid(Path("nowhere"))


class Stock:
    """Noise of `add_noise` of each scale that is asked for, drawn 20,000 values at a time."""

    def __init__(self) -> None:
        self.left: dict[float, np.ndarray] = {}

    def __call__(self, values: np.ndarray, scale: float) -> np.ndarray:
        """Add the next values of the stock."""
        left = self.left.get(scale, np.zeros(0, dtype=np.int64))
        if len(left) < values.size:
            left = add_noise(np.zeros(20_000, dtype=np.int64), scale)
        self.left[scale] = left[values.size :]
        return values + left[: values.size].reshape(values.shape)


STOCK = Stock()
PLACES = (private, clipping)
"""Modules that add noise, all from the stock."""


def neighbours() -> tuple[Tables, Tables]:
    """Twenty patients, and the same with one more, who has far more of one token than the bound."""
    generator = np.random.default_rng(0)
    x1, x2 = generator.poisson(0.7, (20, 2)), generator.poisson(0.7, (20, 2))
    more = np.array([[300, 0]])
    return (x1, x2), (np.concatenate([x1, more]), np.concatenate([x2, more]))


def one_site(x: Tables, epsilon: float, clip: object) -> list[float]:
    """What a release of one site shows."""
    release = private.release_private(
        *x, vocabularies=WORDS, clip=(clip, clip), epsilon=epsilon, delta=DELTA,  # type: ignore[arg-type]  # a bound
        ledger=LEDGER, allow_noise=True,
    )  # fmt: skip
    return [*release.counts.D.toarray().ravel().tolist(), *release.keys.clip.values()]


@contextmanager
def less_noise() -> Iterator[None]:
    with patch.object(private, "add_noise", lambda values, scale: STOCK(values, scale / 3)):
        yield


@contextmanager
def longer_patients() -> Iterator[None]:
    true = private.clip_rows
    with patch.object(private, "clip_rows", lambda t, bound, *more: true(t, 2 * bound, *more)):
        yield


@contextmanager
def unpaid_bound() -> Iterator[None]:
    def exact(table: object, asked: PrivateQuantile, *_: object) -> int:
        return int(min(table.max(), asked.longest))  # type: ignore[attr-defined]  # sparse

    with patch.object(private, "noisy_quantile", exact):
        yield


@dataclass(frozen=True)
class Mechanism:
    """One way to release, and what is claimed of it."""

    name: str
    epsilon: float
    release: Callable[[Tables, float], list[float]]
    broken: Callable[[], object] = nullcontext


def fixed(x: Tables, epsilon: float) -> list[float]:
    return one_site(x, epsilon, CLIP)


def chosen(x: Tables, epsilon: float) -> list[float]:
    return one_site(x, epsilon, PrivateQuantile(0.9, 4))


MECHANISMS = (
    Mechanism("discrete Gaussian, fixed bounds", 1, fixed),
    Mechanism("discrete Gaussian, fixed bounds", 4, fixed),
    Mechanism("discrete Gaussian, bounds chosen by a noisy quantile", 4, chosen),
    Mechanism("broken: a third of the noise", 4, fixed, less_noise),
    Mechanism("broken: patients twice as long as the bound", 4, fixed, longer_patients),
    Mechanism("broken: the largest patient taken for the bound", 4, chosen, unpaid_bound),
)  # fmt: skip


def attack(without: np.ndarray, within: np.ndarray) -> tuple[float, float, float]:
    """A lower bound of epsilon, and the rates of the best test: two arrays (releases, numbers)."""
    first, second = ([half[:: 2], half[1 :: 2]] for half in (without, within))  # fmt: skip
    spread = np.maximum(first[0].std(axis=0), 1e-9)
    lean = (second[0].mean(axis=0) - first[0].mean(axis=0)) / spread**2
    seen = [np.column_stack([one, one @ lean, one.sum(axis=1)]) for one in (*first, *second)]
    a, b = np.concatenate([seen[0], -seen[0]], axis=1), np.concatenate([seen[2], -seen[2]], axis=1)
    best, choice = -math.inf, (0, 0.0)
    for column in range(a.shape[1]):
        for limit in np.unique(np.quantile(a[:, column], np.linspace(0.5, 0.9995, 60))):
            found = lower_epsilon(a[:, column] > limit, b[:, column] > limit)
            if found > best:
                best, choice = found, (column, float(limit))
    column, limit = choice
    a, b = np.concatenate([seen[1], -seen[1]], axis=1), np.concatenate([seen[3], -seen[3]], axis=1)
    false, true = a[:, column] > limit, b[:, column] > limit
    return lower_epsilon(false, true), float(true.mean()), float(false.mean())


def lower_epsilon(false: np.ndarray, true: np.ndarray) -> float:
    """The least epsilon that these rates go with, by their Clopper-Pearson intervals."""
    hits, alarms = int(true.sum()), int(false.sum())
    low = float(beta.ppf(0.025, hits, len(true) - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, alarms + 1, len(false) - alarms)) if alarms < len(false) else 1.0
    return math.log((low - DELTA) / high) if low > DELTA else -math.inf


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    rows: list[Row] = []
    with ExitStack() as stack:
        for module in PLACES:
            stack.enter_context(patch.object(module, "add_noise", STOCK))
        # whose they are is for the ledger alone
        stack.enter_context(patch.object(private, "people_of_rows", lambda *_: ()))
        for one in MECHANISMS:
            sound = one.broken is nullcontext
            releases = 400 if given.quick else given.releases if sound else given.releases // 2
            with one.broken():  # type: ignore[attr-defined]  # a context
                seen = [
                    np.array([one.release(x, one.epsilon) for _ in range(releases)], dtype=float)
                    for x in neighbours()
                ]
            lower, true, false = attack(*seen)
            row = {"mechanism": one.name, "claimed": one.epsilon, "delta": DELTA,
                   "releases": releases, "lower": lower, "true_positives": true,
                   "false_positives": false, "broken": not sound}  # fmt: skip
            print(row, flush=True)
            rows.append(row)
            yield rows


def parts(rows: list[Row]) -> dict[str, str]:
    columns = {
        "release": "mechanism",
        "claimed epsilon": number("claimed", "g"),
        "empirical epsilon, at least": number("lower", ".2f"),
        "true positives": number("true_positives", ".4f"),
        "false positives": number("false_positives", ".4f"),
        "releases of each table": "releases",
        "caught": lambda row: "yes" if row["lower"] > row["claimed"] else "no",
    }
    sound = [row for row in rows if not row["broken"]]
    caught = sum(row["lower"] > row["claimed"] for row in rows if row["broken"])
    return {
        "epsilon": table(columns, rows),
        "epsilon above": f"{sum(row['lower'] > row['claimed'] for row in sound)} of {len(sound)}",
        "epsilon caught": f"{caught} of {len(rows) - len(sound)}",
    }


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--releases", type=int, default=10_000, help="of each table; half, if broken"
    )


STUDY = Study(__file__, parts=parts, run=run, options=options, page="privacy", quick=True)

if __name__ == "__main__":
    STUDY.main()
