"""`medmcl cooccur merge` and the secure sum: several sites' counts become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medmcl.cooccurrence.exchange.flat import layout_of
from medmcl.cooccurrence.exchange.folder import load_counts, read_manifest, save_counts
from medmcl.cooccurrence.exchange.manifest import PrivateKeys
from medmcl.cooccurrence.exchange.merging import Align, merge
from medmcl.cooccurrence.exchange.secure import Share, SiteKeys, add_shares, new_round, pair_seed
from medmcl.cooccurrence.exchange.secure_files import (
    keys_alone,
    load_keys,
    load_round,
    load_seed,
    load_share,
    save_keys,
    save_round,
    save_seed,
    write_share,
)
from medmcl.cooccurrence.release.register import Register
from medmcl.cooccurrence.release.shares import enter_share
from medmcl.core.atomic import folder_aside
from medmcl.core.errors import ArtefactError
from medmcl.core.file_lock import one_writer
from medmcl.core.path_suggestions import require_file
from medmcl.core.writing import refuse_unwritable
from medmcl.stages.cooccur.embed import refuse_used

ROUND = "round.json"


@one_writer("counts are being summed")
def merge_folders(
    sites: Sequence[Path],
    out: Path,
    *,
    align: Align | None = None,
    other_people: bool = False,
) -> dict[str, Any]:
    """Sum saved counts into a new folder; returns totals.

    What private releases promise their patients is no promise of the sum's, whose manifest keeps it
    as notes.
    """
    counts = merge(*sites, align=align, other_people=other_people)
    promised = (_promise(number, site) for number, site in enumerate(sites, 1))
    notes = (*counts.notes, *(one for one in promised if one))
    save_counts(replace(counts, notes=tuple(dict.fromkeys(notes))), out)
    return {"out": str(out), "sites": counts.sites, **counts.totals}


def _promise(number: int, site: Path) -> str | None:
    keys = read_manifest(site).release
    if not isinstance(keys, PrivateKeys):
        return None
    return (
        f"site {number}: differential privacy, epsilon {keys.epsilon:.6g}, "
        f"{keys.spent.epsilon:.6g} with all releases before, delta "
        f"{keys.delta:g}, unit {keys.unit}, clip "
        + ", ".join(f"{name} {bound}" for name, bound in keys.clip.items())
    )


@one_writer("a round is being started")
def start_round(counts: Path, sites: Sequence[str], out: Path) -> dict[str, Any]:
    """Start a secure sum: ``round.json`` for all, and the empty layout for the coordinator.

    Args:
        counts: Any site's counts; only their vocabularies and blocks are used.
        sites: Names of all that take part.
        out: New folder, which holds no count of anybody.
    """
    layout = layout_of(load_counts(counts))
    turn = new_round(sites, layout)
    refuse_used(out)
    with folder_aside(out) as aside:
        save_counts(layout.empty, aside / "layout")
        save_round(turn, aside / ROUND)
    return {"out": str(out), "round": turn.name, "sites": list(turn.sites)}


@one_writer("a share is being made")
def share_counts(
    counts: Path,
    keys: Path,
    turn: Path,
    out: Path,
    *,
    other_people: bool = False,
    beside_private: bool = False,
) -> dict[str, Any]:
    """Mask one site's counts for a round; the share may go to the coordinator, ``keys`` may not.

    The site's register remembers whose counts they are (`enter_share`). The same counts again give
    the same share, which may be written again: to another disk, say, where one was full.

    Args:
        counts: The site's exact counts.
        keys: Its seeds.
        turn: What `start_round` wrote, or the ``round.json`` in it.
        out: File of the share.
        other_people: See `enter_share`.
        beside_private: See `enter_share`.

    Raises:
        ArtefactError: A file is missing, a seed too, other counts were masked for this round, or
            patients were shared before under another name, or nearly the same ones, or have a
            privacy budget.
    """
    started = load_round(round_file(turn))
    require_keys(keys)
    found, register = load_counts(counts), Register.beside(counts.absolute().parent)

    def enter(share: Share) -> None:
        enter_share(
            register, found, share.site, other_people=other_people, beside_private=beside_private
        )

    share = write_share(found, keys, out, started, enter=enter)
    return {"out": str(out), "site": share.site, "round": share.round}


@one_writer("shares are being summed")
def sum_shares(shares: Sequence[Path], started: Path, out: Path) -> dict[str, Any]:
    """Sum the shares of all sites into a new folder of exact counts of all of them together.

    Args:
        shares: One file of each site.
        started: What `start_round` wrote, or the ``round.json`` in it.
        out: New folder; suppress or noise it before it goes further.
    """
    file = round_file(started)
    turn = load_round(file)
    layout = layout_of(load_counts(file.parent / "layout"))
    total = add_shares(load_shares(shares), turn, layout)
    save_counts(total, out)
    return {"out": str(out), "sites": total.sites, **total.totals}


def load_shares(shares: Sequence[Path]) -> list[Share]:
    """Read the shares of a round; all must be there before the first is read."""
    for share in shares:
        require_file(share, ArtefactError)
    return [load_share(share) for share in shares]


def round_file(given: Path) -> Path:
    """The file of a round, given itself or the folder that `start_round` wrote."""
    file = given / ROUND if given.is_dir() else given
    wrote = "name what `medmcl cooccur secure-start` wrote"
    require_file(file, ArtefactError, fix=wrote)
    return file


def require_keys(keys: Path) -> None:
    """Refuse keys that are not there, with the command that makes them."""
    pair = f"medmcl cooccur secure-pair --site SITE --other OTHER --keys {keys} --seed FILE"
    require_file(keys, ArtefactError, fix=f"make them: {pair}")


def share_seed(site: str, other: str, keys: Path, seed: Path) -> dict[str, Any]:
    """Agree with another site on the seed of a pair: the first of the two draws it.

    Where ``seed`` is not there yet, it is drawn, kept in ``keys`` and written to ``seed``, which is
    to be brought to the other site by a channel that nobody else reads. There the same is run with
    the names exchanged: the seed is taken into that site's keys, and the file is deleted. Keys are
    never rebuilt from an old seed: they would not know which rounds were masked for.

    Args:
        site: Name of this site.
        other: Name of the other.
        keys: This site's keys; made if they are not there.
        seed: File that goes from one to the other.

    Raises:
        ArtefactError: The keys are another site's, have a seed for ``other`` already or are in use,
            or the file is for another pair, or was drawn by this very site.
    """
    refuse_unwritable(keys, folder=False)
    with keys_alone(keys):
        own = load_keys(keys) if keys.exists() else SiteKeys(site, {})
        if not _is_taken(own, site, other, seed):
            _refuse_other_pair(own, site, other, keys)
        drawn = not seed.exists()
        shared = pair_seed() if drawn else load_seed(seed, site, other)
        if drawn:
            save_seed(shared, site, other, seed)
        save_keys(SiteKeys(site, {**own.seeds, other: shared}, own.spent), keys)
        if not drawn:
            seed.unlink()
    todo = (
        f"bring {seed} to {other} unseen, and keep no copy"
        if drawn
        else f"{seed} was deleted; delete every other copy, and never rebuild keys from one"
    )
    return {"keys": str(keys), "seeds_for": sorted([*own.seeds, other]), "next": todo}


def _is_taken(own: SiteKeys, site: str, other: str, seed: Path) -> bool:
    """Whether the keys have this very seed: who took it was killed before the file was deleted."""
    if own.site != site or other not in own.seeds or not seed.exists():
        return False
    try:
        return load_seed(seed, site, other) == own.seeds[other]
    except ArtefactError:
        return False


def _refuse_other_pair(own: SiteKeys, site: str, other: str, keys: Path) -> None:
    if not (site.strip() and other.strip()):
        raise ArtefactError("a site has no name", got=f"'{site}' and '{other}'",
                            fix="--site NAME --other NAME")  # fmt: skip
    mine = own.site == site != other
    if not mine or other in own.seeds:
        raise ArtefactError(
            f"there is a seed for {other} already" if mine else "keys not of this pair",
            where=keys,
            got=f"keys of {own.site}, seeds for {', '.join(own.seeds) or 'nobody'}",
            expected=f"keys of {site} without a seed for {other}",
        )
