"""Overrides: ``--set optimiser.lr=1e-3``, laid over a file before it is checked.

What is wrong with an override is said of the override, not of the file it was laid over.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import yaml

from medmcl.core.config import Fault, Loader, nearest, yaml_text
from medmcl.core.errors import ConfigError, MedmclError, OverrideError


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """Turn ``a.b=c`` strings into ``{"a.b": value}``, the value read as YAML."""
    overrides: dict[str, Any] = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign or not key.strip():
            raise ConfigError("an override must look like a.b=c", got=pair)
        if re.fullmatch(r"\{\w+\}", text):  # names a column, as {filename_hr}, and is no mapping
            overrides[key.strip()] = text
            continue
        try:
            overrides[key.strip()] = yaml.load(text, Loader=Loader)
        except (yaml.YAMLError, RecursionError):
            overrides[key.strip()] = text
    return overrides


def typed(value: Any) -> str:
    """Write a value as it is typed behind ``--set KEY=``."""
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml_text(plain, default_flow_style=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def written(dotted: str, value: Any) -> str:
    """Write an override as it is typed on the command line."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        value = typed(value)
    return f"--set {shlex.quote(f'{dotted}={value}')}"


def corrected(text: str, what: str) -> str | None:
    """Say ``write --set ...``: the override that was meant; None where no near key is named.

    Args:
        text: The override as it was written.
        what: What is wrong: ``unknown key 'a.b'; did you mean 'c'?``, or the same of a value.
    """
    dotted, _, value = shlex.split(text)[-1].partition("=")
    own = dotted.removeprefix("cohort.")
    near = _NEAR_KEY.search(what)
    if near is not None and f"{own}.".startswith(f"{near[1]}."):
        head = near[1].rpartition(".")[0]
        meant = ".".join(part for part in (head, near[2]) if part) + own[len(near[1]) :]
        return "write " + written("cohort." * (own != dotted) + meant, value)
    near = _NEAR_VALUE.search(what)
    if near is not None and near[1].endswith(own):
        return "write " + written(dotted, near[2])
    return None


_NEAR_KEY = re.compile(r"unknown key '([^']+)'; did you mean '([^']+)'")
_NEAR_VALUE = re.compile(r"'([^']+)' cannot be used; did you mean '([^']+)'")


def apply_override(
    tree: Any, dotted: str | Sequence[str], value: Any, where: object | None = None
) -> tuple[str, ...]:
    """Set ``tree[a][b] = value`` in place; list elements by number or by their ``name``.

    Args:
        tree: Mappings and lists.
        dotted: Keys, with dots between them; or one by one, where dots stand in a key.
        value: The new value.
        where: What messages call it; ``--set dotted=value`` if not given.

    Returns:
        The path that was set, list elements by their number.

    Raises:
        OverrideError: There is no such element, or a plain value is in the way.
    """
    *parents, last = dotted.split(".") if isinstance(dotted, str) else dotted
    where = where or written(".".join((*parents, last)), value)
    path: list[str] = []
    node = tree
    for part in parents:
        key = _key(node, part, where)
        path.append(str(key))
        if isinstance(node, dict) and node.get(key) is None:
            node[key] = {}
        node = node[key]
    key = _key(node, last, where)
    node[key] = deepcopy(value)  # whoever gave it keeps it as it was
    return (*path, str(key))


def _key(node: Any, part: str, where: object) -> str | int:
    if isinstance(node, list):
        names = [item.get("name") if isinstance(item, dict) else None for item in node]
        if part in names:
            return names.index(part)
        if part.lstrip("-").isdigit() and -len(node) <= int(part) < len(node):
            return int(part) % len(node)
        known = [str(name) for name in names if name] or [str(n) for n in range(len(node))]
        what = f"there is no element '{part}' in the list{nearest(part, known)}"
        raise OverrideError(what, where=where, fix="correct the name, or give the number")
    if isinstance(node, dict):
        return next((key for key in node if str(key) == part), part)
    raise OverrideError(
        f"'{part}' cannot be set: what stands before it is a plain value",
        where=where,
        got=node,
        fix=f"set the whole of it: '{{{part}: ...}}' one name before",
    )


def laid(base: Any, more: Any) -> Any:
    """Lay a value over another: mappings key by key, whatever else in its place."""
    if not isinstance(base, Mapping) or not isinstance(more, Mapping):
        return more
    return {**base, **{k: laid(base[k], v) if k in base else v for k, v in more.items()}}


def blame(path: Sequence[str], applied: Mapping[tuple[str, ...], str]) -> str | None:
    """Give the override that a fault at ``path`` comes from, or None.

    Args:
        path: Where the fault is.
        applied: The path of each override to how it was written.
    """
    for set_, text in reversed(list(applied.items())):
        shorter = min(len(set_), len(path))
        if shorter and tuple(path[:shorter]) == set_[:shorter]:
            return text
    return None


def refuse_overrides(faults: Sequence[Fault], applied: Mapping[tuple[str, ...], str]) -> None:
    """Refuse the faults that overrides brought in.

    Raises:
        OverrideError: Names each override with what is wrong with it.
    """
    blamed = [(blame(fault.path, applied), fault) for fault in faults]
    own = [(text, fault) for text, fault in blamed if text is not None]
    if len(own) == 1:
        text, fault = own[0]
        raise OverrideError(
            fault.what or fault.text,
            where=text,
            got=fault.got,
            expected=fault.expected,
            fix=corrected(text, fault.what) or "correct the override",
        )
    if own:
        what = "overrides are not valid:\n" + "\n".join(f"  - {t}: {f.text}" for t, f in own)
        meant = [one for text, fault in own if (one := corrected(text, fault.what)) is not None]
        raise OverrideError(what, fix="; ".join(meant) or "correct the overrides")


def naming_overrides(error: MedmclError, overrides: Mapping[str, Any]) -> MedmclError:
    """Give an error that names the override that it is about, if there is one.

    That is the one whose whole key fits best: the last keys to a field that the error quotes, those
    before them to what else it says, above all to where the fault is.
    """
    scores = {dotted: _fit(error, tuple(dotted.split("."))) for dotted in overrides}
    dotted = max(scores, key=scores.__getitem__, default="")
    if not scores.get(dotted):
        return error
    text = written(dotted, overrides[dotted])
    if text in str(error):
        return error
    where = text if error.where is None else f"{text}: {error.where}"
    fix = error.fix or corrected(text, error.what)
    return OverrideError(error.what, where=where, got=error.got, expected=error.expected, fix=fix)


_ADVICE = re.compile(r"; did you mean '[^']*'\?|\(known: [^)]*\)")
_QUOTED = re.compile(r"'([^\s']+)'")
_WORD = re.compile(r"[^\s.,:;'\"()]+")


def _fit(error: MedmclError, keys: tuple[str, ...]) -> int:
    """How well the keys of an override fit what an error is about; 0: not at all."""
    what = _ADVICE.sub("", error.what)
    place = tuple(_WORD.findall(re.sub(r"^stage ", "stages ", str(error.where or ""))))
    if place[: len(keys)] == keys:  # it set what the fault lies in
        return 1 + len(keys)
    words = {*place, *_WORD.findall(what)}
    for number in range(len(keys)):
        said = sum(key in words for key in keys[:number])
        known = said > 0 or number == 0
        for field in (tuple(one.split(".")) for one in _QUOTED.findall(what)):
            own = keys[number:]
            if field == own and (known or error.where is None):
                return 1 + said + len(own)
            shorter = min(len(field), len(own))
            if field[:shorter] == own[:shorter] and known:
                return 1 + said
    return 0
