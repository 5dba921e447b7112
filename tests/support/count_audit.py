"""What follows from counts as a report shows them, and from their sums: by integer programming."""

from __future__ import annotations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp


def ends(text, most):
    """What a count as written leaves open."""
    text = text.replace(",", "").split(" (")[0]
    if text.startswith("<"):
        return 1, int(text[1:]) - 1
    low, _, high = text.partition(" to ")
    return (int(float(low)), int(float(high or low))) if low[:1].isdigit() else (0, most)


def rounded_ends(text, most):
    """What a count that is rounded to 5 leaves open."""
    text = text.replace(",", "").split(" (")[0]
    if text.startswith("<"):
        return 0, int(text[1:]) - 1
    return (int(float(text)) - 2, int(float(text)) + 2) if text[:1].isdigit() else (0, most)


class Audit:
    """Counts with what is known of each, and sums of them that are known to be equal."""

    def __init__(self, whole, read=ends):
        self.whole, self.read, self.at, self.bounds, self.sums = whole, read, {}, [], []

    def known(self, name, text=""):
        place = self.at.setdefault(name, len(self.at))
        if place == len(self.bounds):
            self.bounds.append((0, self.whole))
        low, high = self.read(text, self.whole)
        self.bounds[place] = (max(self.bounds[place][0], low), min(self.bounds[place][1], high))

    def equal(self, name, *parts):
        for one in (name, *parts):
            if one not in self.at:
                self.known(one)
        self.sums.append((name, parts))

    def ends_of(self, name, **fixed):
        """Smallest and largest number that a count can be; None where nothing can."""
        a = np.zeros((len(self.sums), len(self.at)))
        for line, (whole, parts) in zip(a, self.sums, strict=True):
            for part, sign in ((whole, 1), *((one, -1) for one in parts)):
                line[self.at[part]] += sign
        low, high = np.array(self.bounds, dtype=float).T
        for other, value in fixed.items():
            low[self.at[other]] = high[self.at[other]] = value
        if (low > high).any():
            return None
        found = []
        for sign in (1, -1):
            c = np.zeros(len(self.at))
            c[self.at[name]] = sign
            done = milp(c, integrality=np.ones(len(c)), bounds=Bounds(low, high),
                        constraints=LinearConstraint(a, 0, 0))  # fmt: skip
            if not done.success:
                return None
            found.append(round(sign * done.fun))
        return tuple(found)
