"""Faults of a rank: what happens to it, and where in a run."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

WAITS = 4.0
"""Seconds that ranks wait here (``--rank-timeout``)."""
STATED = WAITS + 10
"""Seconds after a fault within which all are to have ended."""
LATE = STATED
"""Seconds that a late rank sleeps."""
STEPS = 6

POINTS = {
    "before the group": ("medmcl.engine.peers:join_store", 1),
    "at the group": ("medmcl.stages.run.pretrain:start_world", 1),
    "preparing": ("medmcl.stages.run.pretrain:prepare_inputs", 1),
    "rehearsing": ("medmcl.stages.run.pretrain:dry_run", 1),
    "the first step": ("medmcl.engine.loop:Training.step", 1),
    "a step in the middle": ("medmcl.engine.loop:Training._learn", 4),
    "reading rows": ("medmcl.data.loading.prepare:Prepared.batch", 3),
    "the tuning loss": ("medmcl.engine.loop:Training.tuning_loss", 1),
    "saving": ("medmcl.engine.loop:Training.save", 2),
    "within a save": ("medmcl.engine.checkpoint:Checkpoints._point", 1),
    "the last wait": ("medmcl.engine.peers:Peers.wait", -1),
    "evaluating": ("medmcl.stages.evaluate.stage:Evaluate.run", 1),
}
"""Where a fault comes: the function that is about to be called, and at which of its calls; -1: the
last wait of a run."""
FIRST_RANK = ("within a save", "evaluating")
"""Points that only the first rank comes to."""
BEFORE_GROUP = ("killed", "late")
"""What is drawn before ranks know of each other: nothing of the user's is read there, and one that
is stopped is for its launcher to end."""


def _signalled(number: int) -> Callable[[], None]:
    def send() -> None:
        os.kill(os.getpid(), number)
        time.sleep(0.2)  # a handler in Python runs between two lines

    return send


def _raising(make: Callable[[], BaseException]) -> Callable[[], None]:
    def fail() -> None:
        raise make()

    return fail


def _record_error() -> BaseException:
    from medmcl.core.errors import RecordError

    return RecordError("cannot be read", where="labs.csv, p007")


KINDS: dict[str, Callable[[], None]] = {
    "killed": _signalled(signal.SIGKILL),
    "stopped": _signalled(signal.SIGSTOP),
    "late": lambda: time.sleep(LATE),
    "told to stop": _signalled(signal.SIGTERM),
    "Ctrl-C": _signalled(signal.SIGINT),
    "a record cannot be read": _raising(_record_error),
    "out of memory": _raising(MemoryError),
    "a fault of the code": _raising(lambda: RuntimeError("shapes do not fit")),
    "the disk is full": _raising(lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/run")),
}
CODES = {
    "late": (1, 0),
    "told to stop": (75, 0),
    "Ctrl-C": (75, 130, 0),
    "a record cannot be read": (2,),
}
"""Exit codes that are right, where it is not 1; 0: everything was done when the signal
came, or the first rank was late where no step is and the others waited for it."""


NAN = ("NaN in the loss", "NaN in the gradient")
ROWS = ("uneven rows", "rows without pairs", "fewer rows than ranks")
"""Kinds that a run goes on with; ``point`` says at which step, or with how many rows a batch."""


@dataclass(frozen=True)
class Fault:
    """What happens to a rank, and where."""

    kind: str
    point: str
    rank: int

    @property
    def number(self) -> int:
        """The step that is spoilt, or the rows of a batch."""
        return int(self.point.split()[-1])

    def words(self, home: Path) -> list[object]:
        """What rows the run is asked to take, of a cohort that is written for it if need be."""
        if self.kind not in ROWS:
            return []
        told: list[object] = ["--set", f"stages.contrast.batch_size={self.number}"]
        if self.kind == "rows without pairs":
            told += ["--set", "stages.contrast.rows=any", "--cohort", without_pairs(home)]
        return told

    def install(self, met: Path = Path(os.devnull)) -> None:
        """Wait for it in this process, a rank.

        Args:
            met: File that says when it came.
        """
        if self.kind in NAN:
            self._spoil(met)
            return
        if self.kind in ROWS:
            met.write_text(str(time.monotonic()))  # from the first moment on
            return
        place, at = POINTS[self.point]
        module, _, name = place.partition(":")
        owner: Any = importlib.import_module(module)
        *outer, name = name.split(".")
        for part in outer:
            owner = getattr(owner, part)
        before, calls = getattr(owner, name), 0

        def meet(*given: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at or (at < 0 and given[1] == "the first rank to evaluate"):
                met.write_text(str(time.monotonic()))
                KINDS[self.kind]()
            return before(*given, **named)

        patch.object(owner, name, meet).start()

    def _spoil(self, met: Path) -> None:
        """Give a loss, or the gradient of a parameter, that is not finite, once."""
        from medmcl.engine.loop import Learner

        before, calls = Learner.forward, iter(range(1, STEPS + 1))

        def forward(learner: Any, *given: Any) -> Any:
            loss, terms = before(learner, *given)
            if next(calls) != self.number:
                return loss, terms
            met.write_text(str(time.monotonic()))
            if self.kind == NAN[0]:
                return loss * float("nan"), terms
            last = [one for one in learner.parameters() if one.requires_grad][-1]

            def spoil(gradient: Any) -> Any:
                hook.remove()
                return gradient * float("nan")

            hook = last.register_hook(spoil)
            return loss, terms

        patch.object(Learner, "forward", forward).start()


def without_pairs(home: Path) -> Path:
    """Write a cohort of which most have no report: ranks have rows and no pair."""
    import pandas as pd

    from benchmarks.evaluation.memorised_pairs import write_told

    folder = write_told(home / "few", 0)
    people = pd.read_csv(folder / "people.csv")
    people.loc[people.index % 5 > 0, "report"] = None
    people.to_csv(folder / "people.csv", index=False)
    return folder


def drawn(count: int, ranks: int, seed: int) -> list[Fault]:
    """Faults: every kind in turn, at points and ranks that are drawn."""
    rng = np.random.default_rng([seed, ranks])
    kinds = [*NAN, *ROWS, *KINDS]
    found = []
    for number in range((ranks - 2) * count, (ranks - 1) * count):
        kind = kinds[number % len(kinds)]
        point = str(rng.choice([*POINTS]))
        while point == "before the group" and kind not in BEFORE_GROUP:
            point = str(rng.choice([*POINTS]))
        if kind in NAN:
            point = f"step {rng.integers(1, STEPS + 1)}"
        elif kind in ROWS:
            rows = ranks * rng.integers(1, 20) + rng.integers(1, ranks)  # never a whole share each
            point = f"batches of {ranks - 1 if kind == ROWS[-1] else rows}"
        rank = 0 if point in FIRST_RANK else int(rng.integers(ranks))
        found.append(Fault(kind, point, rank))
    return found
