"""How far pooled out-of-fold predictions of pure noise fall below an AUROC of one half.

``python benchmarks/pooled_folds.py``; ten seconds. A fold's intercept is low where its own test
rows have many positives, so that pooled predictions rank people a little by fold, against the
outcome. Printed are the mean over 30 cohorts and its standard error.
"""

from __future__ import annotations

import numpy as np

from medmcl.core.targets import Targets
from medmcl.evaluation import auroc, repeated_cv

COHORTS = 30


def main() -> None:
    """Print the mean AUROC for two sizes of cohort and of embedding."""
    for size, width in ((60, 2), (200, 32)):
        found = []
        for seed in range(COHORTS):
            rng = np.random.default_rng(seed)
            outcome = (rng.random((size, 1)) < 0.3).astype(float)
            targets = Targets(
                name="y",
                kind="binary",
                columns=("y",),
                values=outcome,
                known=np.ones(outcome.shape, bool),
            )
            guess, _ = repeated_cv(rng.normal(size=(size, width)), targets, np.arange(size))
            found.append(float(auroc(outcome[:, 0], guess[:, 0])))
        error = np.std(found) / COHORTS**0.5
        print(f"{size} people, {width} features: {np.mean(found):.3f} (SE {error:.3f})")


if __name__ == "__main__":
    main()
