"""`medmcl cooccur private-start`, `-share`, `-sum`: noise in shares under a secure sum."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medmcl.cooccurrence.exchange.secure import Round
from medmcl.cooccurrence.exchange.secure_files import write_made
from medmcl.cooccurrence.release.private import RESOLUTION, refuse_hidden
from medmcl.cooccurrence.release.private_sum import (
    load_private_round,
    make_plan,
    save_private_round,
    share_privately,
    sum_privately,
)
from medmcl.cooccurrence.release.register import unseen
from medmcl.cooccurrence.release.token_rows import (
    columns_of,
    read_rows,
    read_vocabularies,
    refuse_other_window,
)
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.file_lock import one_writer
from medmcl.stages.cooccur.merge import load_shares, require_keys, round_file
from medmcl.stages.cooccur.release import (
    open_budget,
    read_bounds,
    refuse_unbounded,
    repeated_rows,
    unlisted_rows,
)


@one_writer("a round is being started")
def start_private(
    vocabulary: Path,
    sites: Sequence[str],
    clip: Sequence[str],
    out: Path,
    *,
    epsilon: float,
    delta: float,
    honest: int | None = None,
    window: str = "record",
    allow_noise: bool = False,
) -> dict[str, Any]:
    """Write the file of a round: who takes part, and how much noise each of them adds.

    Args:
        vocabulary: Table fixed in public.
        sites: Names of all that take part, three or more.
        clip: ``NAME=N`` of each modality.
        out: File; must be new.
        epsilon: Of the release.
        delta: Of the release.
        honest: Sites whose noise alone keeps the promise; all but one if not given.
        window: Of the rows.
        allow_noise: See `medmcl.cooccurrence.release.private.release_private`.

    Returns:
        What to tell.

    Raises:
        ConfigError: A bound that is no constant.
        ArtefactError: See `medmcl.cooccurrence.release.private_sum.Plan.check`.
    """
    if out.exists():
        raise ArtefactError("a round is written to a new file", where=out)
    bounds = {name: bound for name, bound in read_bounds(clip, 1).items() if isinstance(bound, int)}
    if len(bounds) < len(clip):
        raise ConfigError(
            "the bounds of a round are public constants", where="--clip", got=", ".join(clip),
            expected="codes=7",
        )  # fmt: skip
    words = read_vocabularies(vocabulary)
    ordered = {name: bounds[name] for name in words if name in bounds}
    refuse_unbounded(bounds, words)
    plan = make_plan(
        words, ordered, epsilon=epsilon, delta=delta, sites=len(sites), honest=honest, window=window
    )
    whole = plan.scale / RESOLUTION**2 * math.sqrt(len(sites))
    if not allow_noise:
        refuse_hidden(whole / plan.sensitivity, epsilon)
    turn = Round(secrets.token_hex(16), tuple(sites), plan.digest)
    save_private_round(turn, plan, out)
    each = plan.scale / RESOLUTION**2
    return {
        "out": str(out),
        "round": turn.name,
        "sites": list(turn.sites),
        "noise of each site": f"{each:.4g} pairs in every cell (standard deviation)",
        "noise of the release": f"{whole:.4g}; one patient adds at most {plan.sensitivity} to a "
        "cell",
        "promise": f"epsilon {epsilon:g}, delta {delta:g}, as long as {plan.honest} of "
        f"{len(sites)} sites add their noise and keep it to themselves",
    }


@one_writer("a share is being made")
def share_rows(rows: Path, keys: Path, ledger: Path, started: Path, out: Path) -> dict[str, Any]:
    """Make a site's share of a private round; the share may go to the coordinator, nothing else.

    Args:
        rows: ROWS table of the site's patients.
        keys: The site's seeds.
        ledger: Budget of the site's patients, charged with the whole release.
        started: File of `start_private`.
        out: File of the share; must be new.

    Returns:
        What to tell the site: budget spent, and occurrences that the vocabulary does not list.
    """
    turn, plan = load_private_round(round_file(started))
    require_keys(keys)
    kept = open_budget(ledger, rows)
    columns_of(rows)
    with kept.paying(plan.rho):
        found = read_rows(rows, dict(plan.vocabularies))
    refuse_other_window(
        found, plan.window, rows, "rows as the round wants them, or private-start with --window"
    )
    with _private_round():
        share = write_made(
            lambda mine: share_privately(
                found.x1, found.x2, plan=plan, turn=turn, keys=mine, ledger=kept,
                patients=found.patients,
            ),
            keys,
            out,
            turn,
        )  # fmt: skip
    return {
        "out": str(out),
        "site": share.site,
        "round": share.round,
        "unlisted": found.unlisted,
        **kept.spent().model_dump(),
        "warnings": [*unlisted_rows(found), *repeated_rows(found), *unseen()],
    }


@contextmanager
def _private_round() -> Iterator[None]:
    """Name the command that starts a private round, where the masks know of plain sums only."""
    try:
        yield
    except ArtefactError as error:
        fix = error.fix and error.fix.replace("secure-start", "private-start")
        raise error.again(ArtefactError, fix=fix) from None


@one_writer("shares are being summed")
def sum_private(shares: Sequence[Path], started: Path, out: Path) -> dict[str, Any]:
    """Sum the shares of all sites into a release.

    Args:
        shares: One file of each site.
        started: File of `start_private`.
        out: New folder of the release.
    """
    turn, plan = load_private_round(round_file(started))
    with _private_round():
        release = sum_privately(load_shares(shares), turn, plan)
    release.save(out)
    return {
        "out": str(out),
        "sites": list(turn.sites),
        "noise": f"{release.keys.sigma:.4g} pairs in every cell (standard deviation)",
        "epsilon": release.keys.epsilon,
        "delta": release.keys.delta,
    }
