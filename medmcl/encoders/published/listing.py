"""``medmcl models``: what published encoders there are, and everything that a card says of one."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medmcl.core.overrides import typed
from medmcl.encoders.published.card import Card, Input, find_variant, read_card
from medmcl.encoders.published.card_files import card_files

_WIDTH = 100


def list_of_models() -> str:
    """Write every published model: what it reads, how it may be used, what it has seen."""
    lines = ["published encoders; their weights come from your own files, none is shipped"]
    for name in card_files():
        card = read_card(name)
        lines += [
            f"{name}: {card.title}",
            f"  reads    {_input(card.input)}",
            f"  licence  {_licence(card)}",
            *_wrapped("  has seen ", ", ".join(card.seen) or "not known"),
        ]
        if len(card.variants) > 1:
            lines += _wrapped("  variants ", _variants(card))
    return "\n".join([*lines, "one of them, with how it prepares a record: medmcl models NAME"])


def one_model(name: str) -> str:
    """Write everything of a card, and how the model is used.

    Args:
        name: ``NAME`` or ``NAME:VARIANT``.

    Raises:
        ConfigError: There is no such model or variant.
    """
    card, variant = find_variant(name)
    called, modality = card.called(variant), card.input.modality
    lines = [f"{called}: {card.title}"]
    for key, value in (
        ("citation", card.citation),
        ("source", card.source),
        ("licence", _licence(card)),
        ("variants", _variants(card)),
        ("reads", _input(card.input_of(variant))),
    ):
        lines += _wrapped(f"  {key:9s}", value)
    lines += ["", *_prepared("a record is prepared so", card.settings(variant))]
    for other in card.preparations:
        settings = card.settings(variant, other)
        lines += _prepared(f"or, with preparation: {other}, so", settings, card.settings(variant))
    lines += ["", "gives", *_pairs(card.outputs, {card.probe: " (what stands for a record)"})]
    saw = card.saw(variant)
    lines += ["", "has seen, so that scores on it are no evidence of transfer", *_pairs(saw.seen)]
    lines += _wrapped("  not seen, as far as read: ", ", ".join(saw.clean) or "nothing is known")
    lines += ["", "its file", *_file(card)]
    if card.notes:
        lines += ["", "mind", *(line for note in card.notes for line in _wrapped("  - ", note))]
    recipe = {"name": card.name, "weights": "FILE"}
    if variant != card.default:
        recipe["variant"] = variant
    return "\n".join(
        [
            *lines,
            "",
            "how to use it",
            f"  medmcl embed --model {called}:FILE --cohort COHORT --out vectors.parquet",
            f'  python: m = medmcl.models.load("{called}", weights=FILE); '
            f"m.features(m.prepare({_call(card)})[None])",
            f"  recipe: towers.{modality}.encoder: {typed(recipe)}",
        ]
    )


def _licence(card: Card) -> str:
    return card.licence if card.commercial else f"{card.licence}: NO COMMERCIAL USE"


def _variants(card: Card) -> str:
    """Variants as they are asked for, the default first."""
    others = [card.called(one) for one in card.variants if one != card.default]
    return ", ".join([f"{card.name} (= {card.default})", *others])


def _input(given: Input) -> str:
    shape = " x ".join(map(str, given.shape))
    said = [given.modality]
    if given.leads is not None:
        said.append("12 leads" if given.leads == "12std" else f"leads {' '.join(given.leads)}")
    if given.seconds is not None:
        said.append(f"{given.seconds:g} s at {given.rate_hz:g} Hz ({shape})")
    elif given.spacing_mm is not None:
        said.append(f"{shape} voxels of {' x '.join(f'{one:g}' for one in given.spacing_mm)} mm")
    else:
        said.append(shape)
    return ", ".join([*said, *([given.units] if given.units else [])])


def _prepared(
    title: str, settings: Mapping[str, Any], but: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """Write settings of an adapter, steps one below another; only those that ``but`` has not."""
    yield f"{title}:" if but else f"{title} (inputs of a recipe take the same):"
    for key, value in settings.items():
        if but is not None and but.get(key) == value:
            continue
        if key == "steps":
            yield "  steps:" if value else "  steps: []  (nothing more)"
            rate_hz = float(settings.get("rate_hz", 500))
            for step in value:
                yield from _wrapped("    - ", typed(step) + _in_seconds(step, rate_hz))
                rate_hz = float(step.get("hz", rate_hz)) if step["step"] == "resample" else rate_hz
        else:
            yield from _wrapped(f"  {key}: ", typed(value))


def _in_seconds(step: Mapping[str, Any], rate_hz: float) -> str:
    """Say the samples of a step in seconds."""
    if "samples" not in step:
        return ""
    said = f"{step['samples'] / rate_hz:g} s at {rate_hz:g} Hz"
    starts = ", ".join(f"{one / rate_hz:g}" for one in step.get("starts", ()))
    apart = f", every {step['every'] / rate_hz:g} s" if "every" in step else ""
    return f"  ({said}{f', from {starts} s' if starts else apart})"


def _file(card: Card) -> Iterator[str]:
    weights = card.weights
    if weights.under:
        yield f"  tensors under {' or '.join(weights.under)}, or bare"
    if weights.prefixes:
        yield f"  encoder's names after {', '.join(weights.prefixes)} where they have it"
    if weights.drop:
        yield from _wrapped("  may hold, not read: ", ", ".join(weights.drop))
    for name, digest in weights.sha256.items():
        yield f"  {name}: sha256 {digest}"
    if not weights.sha256:
        yield "  no hash is known: names and shapes of all tensors are checked"


def _pairs(said: Mapping[str, str], more: Mapping[str, str] | None = None) -> Iterator[str]:
    for name, what in said.items():
        yield from _wrapped(
            f"  {name}: " if what else f"  {name}", what + (more or {}).get(name, "")
        )


def _call(card: Card) -> str:
    if card.input.leads is not None:
        return 'signal, leads=NAMES, rate_hz=500, units="mV"'
    return "volume, spacing_mm=(1.4, 1.4, 8.0)"


def _wrapped(start: str, text: str) -> Sequence[str]:
    """Lines of a text, after the first below the end of ``start``."""
    return textwrap.wrap(
        text, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start)
    ) or [start.rstrip()]
