"""Mixed-up limb leads: what the identities between limb leads say about their names.

Six limb leads are combinations of two potentials, so all but two dimensions of them must vanish.
Where they do not, the simplest exchange of names or signs that makes them vanish is the likely
mistake.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations, product

import numpy as np

from medmcl.modalities.ecg.leads import LIMB, LIMB_ROWS

MOST = 3
"""Exchanges and reversals that one mistake may take: more of them explain whatever leads."""


@dataclass(frozen=True)
class LimbFit:
    """How well limb leads obey their identities.

    Attributes:
        residual: Root mean square of what contradicts the identities, over that of the leads: 0 is
            perfect, 1 the worst.
        repaired: The same after the best explanation; equal to ``residual`` if there is none.
        explanations: Simplest mistakes that explain it, in words; all equally simple.
    """

    residual: float
    repaired: float
    explanations: tuple[str, ...] = ()


def residual_of(leads: tuple[str, ...], gram: np.ndarray) -> float:
    """Give the share of limb leads that contradicts their identities, 0 to 1.

    Args:
        leads: At least three limb leads.
        gram: Products of the centred leads, (L, L).
    """
    return float(residuals_of(leads, gram[None])[0])


def residuals_of(leads: tuple[str, ...], grams: np.ndarray) -> np.ndarray:
    """Give `residual_of` each of some products (N, L, L); (N,)."""
    return np.asarray(np.sqrt(_energies(leads, grams)))


def explain(leads: tuple[str, ...], gram: np.ndarray, tolerance: float) -> LimbFit:
    """Look for the fewest exchanges and reversals of leads that bring the residual below tolerance.

    There is none where it takes more than `MOST`. Every assignment of names and signs is tried:
    46,080 for six leads.
    """
    size = len(leads)
    orders, moves = _orders(size)
    best: list[tuple[int, float, str]] = []
    residual = residual_of(leads, gram)
    for signs in product((1, -1), repeat=size):
        flips = min(signs.count(-1), signs.count(1))
        flipped = np.outer(signs, signs) * gram
        energy = _energies(leads, flipped[orders[:, :, None], orders[:, None, :]])
        for number in np.flatnonzero(energy <= tolerance**2):
            cost = int(moves[number]) + flips
            if cost <= MOST:
                said = _describe(leads, orders[number], signs)
                best.append((cost, float(np.sqrt(energy[number])), said))
    if not best:
        return LimbFit(residual, residual)
    fewest = min(cost for cost, _, _ in best)
    simplest = sorted({(error, said) for cost, error, said in best if cost == fewest})
    words = tuple(dict.fromkeys(said for _, said in simplest))
    return LimbFit(residual, simplest[0][0], words)


def exchanged(leads: tuple[str, ...], gram: np.ndarray) -> float:
    """Give the smallest residual that an exchange of two names leaves, 0 to 1."""
    orders = _exchanges(len(leads))
    return float(residuals_of(leads, gram[orders[:, :, None], orders[:, None, :]]).min())


@cache
def _exchanges(size: int) -> np.ndarray:
    """Orders in which two of ``size`` rows are exchanged, (pairs, size)."""
    orders = np.tile(np.arange(size), (size * (size - 1) // 2, 1))
    for order, pair in zip(orders, combinations(range(size), 2), strict=True):
        order[list(pair)] = order[list(pair[::-1])]
    return orders


def _energies(leads: tuple[str, ...], grams: np.ndarray) -> np.ndarray:
    """Share of energy outside the plane that limb leads span, for each of (N, L, L) products."""
    outside = _outside(leads)
    total = np.trace(grams, axis1=1, axis2=2)
    energy = np.einsum("ij,nij->n", outside, grams) / np.maximum(total, 1e-30)
    return np.asarray(energy.clip(0, 1))


@cache
def _outside(leads: tuple[str, ...]) -> np.ndarray:
    """Projection out of the plane that limb leads span, (L, L)."""
    rows = np.array([LIMB_ROWS[LIMB.index(lead)] for lead in leads])
    return np.asarray(np.eye(len(leads)) - rows @ np.linalg.pinv(rows))


@cache
def _orders(size: int) -> tuple[np.ndarray, np.ndarray]:
    """All orders of ``size`` rows and the exchanges each takes. (P, size) and (P,)."""
    orders = np.array(list(permutations(range(size))))
    return orders, np.array([size - len(_cycles(order)) for order in orders])


def _cycles(order: np.ndarray) -> list[list[int]]:
    left, cycles = set(range(len(order))), []
    while left:
        cycle = [min(left)]
        while (following := int(order[cycle[-1]])) != cycle[0]:
            cycle.append(following)
        left -= set(cycle)
        cycles.append(cycle)
    return cycles


def _describe(leads: tuple[str, ...], order: np.ndarray, signs: tuple[int, ...]) -> str:
    """Say which rows carry which leads: row ``order[i]`` holds lead i, times its sign."""
    parts = []
    for cycle in _cycles(order):
        names = [leads[number] for number in cycle]
        if len(names) == 2:
            parts.append(f"{names[0]} and {names[1]} are swapped")
        elif len(names) > 2:
            chain = [f"what is called {leads[order[n]]} is {leads[n]}" for n in cycle]
            parts.append(", ".join(chain))
    reverse = -1 if signs.count(-1) * 2 <= len(signs) else 1
    turned = [lead for lead, sign in zip(leads, signs, strict=True) if sign == reverse]
    if turned:
        parts.append(f"the sign of {', '.join(turned)} is reversed")
    return " and ".join(parts) or "nothing"
