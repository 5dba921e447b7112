"""A private round as a file: public, the same for all sites."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from medmcl.cooccurrence.count.counts import Vocabulary
from medmcl.cooccurrence.count.rules import WindowName
from medmcl.cooccurrence.exchange.manifest import Number, Positive, Probability
from medmcl.cooccurrence.exchange.secure import Round
from medmcl.cooccurrence.exchange.secure_files import PRIVATE_ROUND, SECURE_ROUND, read_json
from medmcl.cooccurrence.release.private_sum import Plan
from medmcl.core.atomic import write_atomically
from medmcl.core.config import Config, check
from medmcl.core.errors import ArtefactError


class WordsKeys(Config):
    """A public vocabulary."""

    name: str
    version: str
    tokens: tuple[str, ...]


class PrivateRoundKeys(Config):
    """A round with its plan; see `medmcl.cooccurrence.release.private_sum.Plan`."""

    schema_: Literal["medmcl/private-round@1"] = Field(alias="schema")
    name: str
    sites: tuple[str, ...]
    epsilon: Positive
    delta: Probability
    honest: Number
    window: WindowName
    clip: dict[str, Number]
    scale: Positive
    rho: Positive
    vocabularies: tuple[WordsKeys, ...]


def save_private_round(turn: Round, plan: Plan, path: Path) -> None:
    """Write a round; nothing in it is secret."""
    keys = PrivateRoundKeys(
        schema=PRIVATE_ROUND,
        name=turn.name,
        sites=turn.sites,
        epsilon=plan.epsilon,
        delta=plan.delta,
        honest=plan.honest,
        window=plan.window,
        clip=dict(plan.clip),
        scale=plan.scale,
        rho=plan.rho,
        vocabularies=tuple(
            WordsKeys(name=name, version=words.version, tokens=words.tokens)
            for name, words in plan.vocabularies.items()
        ),
    )
    text = json.dumps(keys.model_dump(by_alias=True), indent=2, ensure_ascii=False)
    write_atomically(path, text + "\n")


def load_private_round(path: Path) -> tuple[Round, Plan]:
    """Read a round and its plan.

    Raises:
        ArtefactError: If it is none, or its plan does not keep what it promises.
    """
    values = read_json(path)
    if values.get("schema") == SECURE_ROUND:
        raise ArtefactError(
            "is a round of an exact sum, without noise", where=path,
            fix="start one with noise: medmcl cooccur private-start",
        )  # fmt: skip
    keys = check(PrivateRoundKeys, values, path, ArtefactError)
    plan = Plan(
        vocabularies={one.name: Vocabulary(one.tokens, one.version) for one in keys.vocabularies},
        clip=keys.clip,
        epsilon=keys.epsilon,
        delta=keys.delta,
        honest=keys.honest,
        window=keys.window,
        scale=keys.scale,
        rho=keys.rho,
    )
    plan.check(len(keys.sites))
    return Round(keys.name, keys.sites, plan.digest), plan
