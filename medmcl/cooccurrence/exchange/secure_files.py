"""Seeds, rounds and masked shares as files, so that sites and coordinator need no connection."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from safetensors import safe_open
from safetensors.numpy import save_file

from medmcl.cooccurrence.count.counts import Counts
from medmcl.cooccurrence.count.people import register_beside
from medmcl.cooccurrence.exchange.secure import Round, Share, SiteKeys
from medmcl.cooccurrence.exchange.tables import read_json
from medmcl.core.atomic import file_aside, write_atomically
from medmcl.core.config import Config, check
from medmcl.core.errors import ArtefactError
from medmcl.core.file_lock import alone
from medmcl.core.limits import parse_json
from medmcl.core.sealed import reading

_SCHEMA = "medmcl/masked-share@2"


class KeysKeys(Config):
    """A site's seeds as a file; it never leaves the site."""

    schema_: Literal["medmcl/site-keys@1"] = Field(alias="schema")
    site: str
    seeds: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]
    spent: tuple[str, ...] = ()


class SeedKeys(Config):
    """The secret of two sites, on its way from one to the other."""

    schema_: Literal["medmcl/pair-seed@1"] = Field(alias="schema")
    pair: tuple[str, str]
    drawn_by: str
    seed: str = Field(pattern="^[0-9a-f]{64}$")


class RoundKeys(Config):
    """A round as a file, the same for all."""

    schema_: Literal["medmcl/secure-round@1"] = Field(alias="schema")
    name: str
    sites: tuple[str, ...]
    layout: str


def save_keys(keys: SiteKeys, path: str | Path) -> None:
    """Write a site's seeds so that only their owner can read the file."""
    values = {
        "schema": "medmcl/site-keys@1",
        "site": keys.site,
        "seeds": {other: seed.hex() for other, seed in keys.seeds.items()},
        "spent": sorted(keys.spent),
    }
    _write_secret(Path(path), values)


def save_seed(seed: bytes, drawn_by: str, other: str, path: str | Path) -> None:
    """Write the seed of a pair so that only its owner can read the file."""
    values = {
        "schema": "medmcl/pair-seed@1",
        "pair": sorted((drawn_by, other)),
        "drawn_by": drawn_by,
        "seed": seed.hex(),
    }
    _write_secret(Path(path), values)


def load_seed(path: str | Path, site: str, other: str) -> bytes:
    """Read the seed that ``other`` drew for ``site``.

    Raises:
        ArtefactError: If the file is for another pair, or ``site`` drew it itself: keys that are
            rebuilt from an old seed have forgotten which rounds they masked for.
    """
    pair = (site, other)
    keys = check(SeedKeys, read_json(Path(path)), path, ArtefactError)
    if sorted(keys.pair) != sorted(pair):
        raise ArtefactError(
            "is the seed of another pair", where=path, got=" and ".join(keys.pair),
            expected=" and ".join(sorted(pair)),
        )  # fmt: skip
    if keys.drawn_by != other:
        raise ArtefactError(
            "was drawn by this site, whose keys had it already", where=path, got=keys.drawn_by,
            expected=other,
            fix=f"delete {path} and agree on a new one: keys are never rebuilt from an old seed",
        )  # fmt: skip
    return bytes.fromhex(keys.seed)


def _write_secret(path: Path, values: Mapping[str, object]) -> None:
    write_atomically(path, json.dumps(values, indent=2) + "\n", mode=0o600)


def load_keys(path: str | Path) -> SiteKeys:
    """Read a site's seeds."""
    keys = check(KeysKeys, read_json(Path(path)), path, ArtefactError)
    seeds = {other: bytes.fromhex(seed) for other, seed in keys.seeds.items()}
    return SiteKeys(keys.site, seeds, set(keys.spent))


def save_round(turn: Round, path: str | Path) -> None:
    """Write a round for all sites; nothing in it is secret."""
    values = {"schema": "medmcl/secure-round@1", **asdict(turn)}
    write_atomically(Path(path), json.dumps(values, indent=2) + "\n")


def load_round(path: str | Path) -> Round:
    """Read a round."""
    keys = check(RoundKeys, read_json(Path(path)), path, ArtefactError)
    return Round(keys.name, keys.sites, keys.layout)


def write_share(
    counts: Counts,
    keys: str | Path,
    path: str | Path,
    turn: Round,
    *,
    enter: Callable[[Share], None],
) -> Share:
    """Mask what a site has and write the share; that the round is spent is written first.

    The register of releases remembers for which rounds a site has masked, and which share that was:
    keys that were set back to an older copy do not. The very same share may be written again, which
    tells nothing new: the disk was full when it was made.

    Args:
        counts: What the site has.
        keys: The site's file of seeds.
        path: Where the share goes; must be new.
        turn: The round.
        enter: Called with the share before anything is written; may refuse it.

    Raises:
        ArtefactError: If ``path`` is there already, another share is being made with these keys, or
            the round cannot be masked for (see `SiteKeys.share`), or was masked for before.
    """
    with keys_alone(keys):
        if Path(path).exists():  # before the round is spent
            raise ArtefactError(
                "a share is written to a new file", where=path, fix="name another file"
            )
        mine = load_keys(keys)
        name = hashlib.sha256(f"{turn.name} {mine.site}".encode()).hexdigest()
        mark = register_beside(Path(keys).parent) / "rounds" / name
        made = mark.read_text(encoding="ascii") if mark.exists() else None
        known = turn.name in mine.spent
        if made:
            mine.spent.discard(turn.name)
        elif made is not None and not known:
            raise _masked_before(keys, turn, known=False)
        share = mine.share(counts, turn)
        if made is not None and made != share.checksum:
            raise _masked_before(keys, turn, known=known)
        enter(share)
        write_atomically(mark, share.checksum)  # first: killed here, it is made again
        save_keys(mine, keys)
        save_share(share, path)
    return share


def _masked_before(keys: str | Path, turn: Round, *, known: bool) -> ArtefactError:
    how = "for other counts" if known else "though the keys do not know of it"
    return ArtefactError(
        f"has masked for this round before, {how}; a second share would tell the difference",
        where=keys,
        got=turn.name,
        fix="share the counts that were shared, or start a new round: medmcl cooccur secure-start"
        if known
        else "keys are never restored from a copy: agree on new seeds with every site (medmcl "
        "cooccur secure-pair) and start a new round",
    )


def keys_alone(keys: str | Path) -> AbstractContextManager[str]:
    """Nobody else uses or changes these keys meanwhile: no round is masked for twice."""
    return alone(Path(keys), "another share or seed is being made with these keys")


def save_share(share: Share, path: str | Path) -> None:
    """Write a masked share (safetensors)."""
    said = {
        "schema": _SCHEMA,
        "site": share.site,
        "round": share.round,
        "layout": share.layout,
        "pairs": dict(share.pairs),
        "checksum": share.checksum,
    }
    with file_aside(Path(path)) as aside:
        whole = {
            "share": json.dumps(said, sort_keys=True)
        }  # the order of several is left to chance
        save_file({"values": share.values}, aside, metadata=whole)


def load_share(path: str | Path) -> Share:
    """Read a masked share.

    Raises:
        ArtefactError: If the file is no share or was cut short. Whether its numbers are whole is
            for `medmcl.cooccurrence.exchange.secure.add_shares` to say.
    """
    with reading(Path(path), "is no masked share, or was cut short", fix="have it sent again"):
        with safe_open(path, framework="numpy") as file:
            said = parse_json((file.metadata() or {}).get("share", "{}"))
            values = file.get_tensor("values")
        if said.get("schema") != _SCHEMA:
            raise ArtefactError("is no masked share", where=path, got=said.get("schema"))
        names = ("site", "round", "layout", "pairs", "checksum")
        return Share(values=values, **{name: said[name] for name in names})
