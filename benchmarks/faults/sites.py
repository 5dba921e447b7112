"""What three sites have, that the commands between them read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.faults.families import ROUND

SITES = ("north", "south", "west")


def make_sites(home: Path, made: Callable[[str], None]) -> None:
    """Make rows, vocabulary, keys, ledgers, rounds, shares and vectors.

    Args:
        home: Holds counts ``a`` and ``b``, and ``ehr.yaml``.
        made: Types a command.
    """
    import pandas as pd

    from medmcl.cooccurrence.exchange.secure import SiteKeys
    from medmcl.cooccurrence.exchange.secure_files import save_keys

    place, shares = home / "sites", home / "shares"
    place.mkdir()
    shares.mkdir()
    made("cooccur rows HOME/ehr.yaml --out HOME/sites/rows.csv")
    words = pd.concat(
        pd.read_csv(home / f"{kind}.csv").assign(modality=kind) for kind in ("codes", "concepts")
    )
    words.assign(version="1").to_csv(place / "vocabulary.csv", index=False)
    seed = bytes(range(32))
    made(f"cooccur secure-start HOME/a {ROUND} --out HOME/sites/secure")
    place_of = {site: number for number, site in enumerate(SITES)}
    for site in SITES:
        # What is used up here is a copy of what trials use.
        for folder in (place, shares):
            keys = SiteKeys(site, {other: seed for other in SITES if other != site})
            save_keys(keys, folder / f"{site}.keys.json")
            made(f"cooccur budget {folder}/{site}.ledger.json --epsilon 9 --delta 1e-6")
        used = f"--keys HOME/shares/{site}.keys.json"
        made(f"cooccur secure-share HOME/{'abc'[place_of[site]]} {used} --round "
             f"HOME/sites/secure --out HOME/shares/{site} --other-people")  # fmt: skip
    made("cooccur embed HOME/a --out HOME/vectors-a --set rank=2")
    write_turned(home)
    first, second = (words["code"][words["modality"] == kind] for kind in ("codes", "concepts"))
    pairs = pd.DataFrame({"first": [*first][:4], "second": [*second][:4], "relation": "names"})
    pairs.to_csv(home / "relations.csv", index=False)


def write_turned(home: Path) -> None:
    """Write vectors of two sites that are the same but for a turn, and noise: they are merged."""
    import numpy as np

    from medmcl.cooccurrence.embed.token_vectors import TokenVectors
    from medmcl.stages.cooccur.embed import read_facts, write_vectors

    facts = read_facts(home / "vectors-a")
    facts = {key: one for key, one in facts.items() if key not in ("schema", "medmcl", "digest")}
    rng = np.random.default_rng(0)
    tokens = {kind: [f"{kind}{number}" for number in range(20)] for kind in ("codes", "concepts")}
    vectors = {kind: rng.normal(size=(20, 2)) for kind in tokens}
    for site, turn in (("c", np.eye(2)), ("d", np.array([[0.0, 1.0], [-1.0, 0.0]]))):
        own = {
            kind: one @ turn + 0.01 * rng.normal(size=one.shape) for kind, one in vectors.items()
        }
        write_vectors(TokenVectors.join(tokens, own), facts, home / f"vectors-{site}")
