"""Ledger of overlap: whether a model may have seen the data that it is scored on.

A card names the data sets that its model was trained on (``seen``) and those that it was not
(``clean``); a cohort says which data set it is (``dataset``), and behind a colon which part of it
is scored: ``ptbxl:fold 10``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from medmcl.core.config import closest, read_yaml
from medmcl.core.errors import ConfigError

MARK = "NO EVIDENCE OF TRANSFER"
"""How a note begins that belongs on the first page."""
SEEN = " (may have seen these data: no evidence of transfer)"
"""Behind the name of such a model in rows and headlines of an evaluation."""
DATASETS = Path(__file__).with_name("datasets.yaml")
"""What data sets are called, and which are made of others."""
Status = Literal["seen", "other parts seen", "not seen", "not known"]


@dataclass(frozen=True)
class Overlap:
    """What is known of one model and one data set.

    Attributes:
        status: ``seen``: what is scored may have been trained on, so that a score is no evidence of
            transfer. ``other parts seen``: not who is scored, but others of the same data set.
        said: Why.
    """

    status: Status
    said: str

    @property
    def mark(self) -> str:
        """What stands in a row and a headline; empty where there is nothing to mind."""
        if self.status == "seen":
            return f"{MARK}: {self.said}"
        return "" if self.status == "not seen" else f"{self.status}: {self.said}"


def overlap_of(dataset: str | None, seen: Mapping[str, str], clean: Sequence[str]) -> Overlap:
    """Say whether a model may have seen a data set.

    Args:
        dataset: ``NAME`` or ``NAME:PART``; None where the cohort does not say what it is.
        seen: Data sets that the model was trained on, and what of them.
        clean: Data sets, or parts of them, that it was not trained on.
    """
    if dataset is None:
        return Overlap("not known", "the cohort does not say which data set it is (dataset:)")
    called, made_of = _datasets()

    def same(name: str) -> str:
        return called.get(plain_name(name), plain_name(name))

    def part_of(said: str) -> tuple[str, str]:
        name, _, part = said.partition(":")
        return same(name), plain_name(part)

    name, part = part_of(dataset)
    saw = {one: said for mixture, said in seen.items() for one in made_of.get(same(mixture), ())}
    saw |= {same(one): said for one, said in seen.items()}
    unseen = {part_of(one) for one in clean}
    if name in made_of and name not in saw and (name, "") not in unseen:
        return worst([overlap_of(one, seen, clean) for one in made_of[name]])
    what = f"{name}: {saw[name]}" if saw.get(name) else name
    if unseen & {(name, part), (name, "")}:
        if name in saw:
            return Overlap("other parts seen", f"trained on {what}")
        return Overlap("not seen", f"trained on {', '.join(seen) or 'nothing that is listed'}")
    if name in saw:
        return Overlap("seen", f"trained on {what}")
    near = None if name in called.values() else closest(name, [*called, *saw])
    hint = f"; did you mean '{near}'?" if near else ""
    return Overlap("not known", f"nothing is said of {dataset.partition(':')[0]}{hint}")


@cache
def _datasets() -> tuple[dict[str, str], dict[str, list[str]]]:
    """Give every name, plain, with the one that is compared; and what mixtures are made of."""
    said = read_yaml(DATASETS)
    called = {
        plain_name(one): plain_name(name)
        for name, others in said["called"].items()
        for one in (name, *others)
    }
    made_of = {plain_name(k): list(map(plain_name, v)) for k, v in said["made_of"].items()}
    return called, made_of


def of_anybody(dataset: str | None) -> str | None:
    """Give ``NAME`` of ``NAME:PART``, where others than those of the part are scored."""
    return None if dataset is None else dataset.partition(":")[0]


def plain_name(name: str) -> str:
    """A data set's name as it is compared: ``PTB-XL`` is ``ptbxl``."""
    return "".join(filter(str.isalnum, name.lower()))


def worst(found: Sequence[Overlap]) -> Overlap:
    """Give what must be minded most of several."""
    order: tuple[Status, ...] = ("seen", "not known", "other parts seen", "not seen")
    return min(found, key=lambda one: order.index(one.status))


def overlap_of_provenance(dataset: str | None, made_by: Mapping[str, Any]) -> Overlap:
    """The same of what embeddings say of who made them; ``{}`` says nothing.

    A run has seen what the weights have that it began with; on whom it was trained itself its
    vectors do not say.
    """
    if "seen" in made_by:
        return overlap_of(dataset, made_by["seen"], made_by.get("clean", ()))
    said = "whom its run learned from" if made_by else "what the encoder was trained on"
    began = [overlap_of_provenance(dataset, one) for one in made_by.get("published", {}).values()]
    return worst([Overlap("not known", f"nothing says {said}"), *began])


def refuse_overlap(found: Mapping[str, Overlap], *, allow: bool) -> None:
    """Refuse models that may have seen who is scored, unless that is asked for.

    Raises:
        ConfigError: Names them.
    """
    barred = {name: one for name, one in found.items() if one.status == "seen"}
    if barred and not allow:
        raise ConfigError(
            "may have been trained on who is scored here: a score is no evidence of transfer",
            got="; ".join(f"{name} ({one.said})" for name, one in barred.items()),
            fix="leave it out, or give --allow-overlap: every row and headline then says so",
        )
