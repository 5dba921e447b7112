"""From the tree of a cohort.yaml to a `CohortSpec`, every fault of the file at once.

An unknown key is named with its nearest neighbour and taken out; so is every modality, task or
section that is not valid. The rest is checked, and its data too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from medmcl.core.config import ONE_FILE, Config, alike, closest, explain, nearest
from medmcl.core.errors import CohortError
from medmcl.core.findings import Finding, cohort_error
from medmcl.data.cohort.spec import (
    TASKS,
    CohortKeys,
    CohortSpec,
    ModalityKeys,
    ModalitySpec,
    NoisyPairsKeys,
    PairingKeys,
    RegressionKeys,
    SubjectsKeys,
    SurvivalKeys,
    Task,
)
from medmcl.modalities import ADAPTERS, kind_of, readers

C = TypeVar("C", bound=Config)


@cache
def _all_keys() -> frozenset[str]:
    """Keys that some kind of modality or task knows: none of them is a misspelt one."""
    sources = [adapter.Source for adapter in ADAPTERS.values()]
    return frozenset(key for model in (*sources, *TASKS.values()) for key in model.model_fields)


class _Faults:
    """What is found wrong with a file, as it is read."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.found: list[Finding] = []

    def invalid(self, what: str) -> None:
        """Note a value that cannot be used."""
        fix = "see docs/cohort.md (every key), or docs/data_formats.md (formats of data)"
        self.found.append(cohort_error("config.invalid", self.where, what, fix))

    def unknown_key(self, key: str, hint: str) -> None:
        """Note a key that nothing reads, and which may be meant."""
        what, fix = f"unknown key '{key}'{hint}", "correct the key, or take it out"
        self.found.append(cohort_error("config.unknown_key", self.where, what, fix))


def parse_spec(tree: Mapping[str, Any], where: str) -> tuple[CohortSpec | None, list[Finding]]:
    """Check a whole cohort.yaml.

    Returns:
        The spec, without what is at fault (its ``left_out`` names that), and every fault; None if
        what is wrong leaves no subjects to look at.
    """
    faults = _Faults(where)
    keys, sections_out = _cohort_keys(tree, faults)
    sections = tree.get("modalities")
    modalities = {
        str(name): _modality(str(name), section, faults)
        for name, section in (sections.items() if isinstance(sections, dict) else ())
        if isinstance(section, dict)
    }
    given = tree.get("tasks")
    tasks = {
        str(name): _task(str(name), section, faults)
        for name, section in (given.items() if isinstance(given, dict) else ())
        if isinstance(section, dict)
    }
    for kind, names in (("modalities", modalities), ("tasks", tasks)):
        for name in names:
            if not name.isidentifier():
                faults.invalid(f"'{kind}.{name}': a name is made of letters, digits and _")
        if pair := alike(names):
            faults.invalid(f"'{kind}': {ONE_FILE.format(*pair)}")
    if keys is None:
        return None, faults.found
    dangling = _references(keys, modalities, tasks, sections_out)
    for _, what in dangling:
        faults.invalid(what)
    spec = CohortSpec(
        keys=keys,
        modalities={name: value for name, value in modalities.items() if value is not None},
        tasks={name: value for name, value in tasks.items() if value is not None},
        left_out=sections_out,
    )
    if not faults.found:
        return spec, []
    at_fault = sections_out.union(section for section, _ in dangling)
    return _without_faulty(spec, sections, given, at_fault), faults.found


_STAND_INS: dict[str, Any] = {"schema": "medmcl/cohort@1", "modalities": {"none": {}}}
"""What replaces a needed section that is at fault; modalities are read from the file itself."""


def _cohort_keys(
    tree: Mapping[str, Any], faults: _Faults
) -> tuple[CohortKeys | None, frozenset[str]]:
    """Check the top level; what is at fault is noted, and its default taken.

    Returns:
        The top level, None where the fault is in what no default can replace; and the dotted names
        of what was replaced.
    """
    keys = _validate(CohortKeys, tree, "", faults)
    if keys is not None:
        return keys, frozenset()
    rest, out = dict(tree), set[str]()
    for _ in range(len(tree) + len(SubjectsKeys.model_fields) + 1):
        try:
            return CohortKeys.model_validate(rest), frozenset(out)
        except ValidationError as error:
            details = error.errors()
        unknown = [one["loc"] for one in details if one["type"] == "extra_forbidden"]
        rest = _without(rest, unknown)
        for place in (one["loc"] for one in details if one["loc"] not in unknown):
            if not _stand_in(rest, place, out):
                return None, frozenset(out)
    return None, frozenset(out)


def _stand_in(rest: dict[str, Any], place: tuple[Any, ...], out: set[str]) -> bool:
    """Replace what stands at a place that is at fault by its default; False if it has none."""
    section = place[0]
    if section == "subjects":
        key = place[1] if len(place) > 1 else None
        if key in (None, "table", "id"):
            return False
        subjects = {k: v for k, v in rest["subjects"].items() if k != key}
        if key == "split":
            subjects["split"] = {"everyone": "train"}
        rest["subjects"] = subjects
        out.add(f"subjects.{key}")
        return True
    rest.pop(section, None)
    if section in _STAND_INS:
        rest[section] = _STAND_INS[section]
    out.add(str(section))
    return True


def _without_faulty(
    spec: CohortSpec, modalities: object, tasks: object, sections: Collection[str]
) -> CohortSpec:
    """Take out what stands in the file and is not valid, or names what is not there."""
    named = {"modalities": modalities, "tasks": tasks}
    written = {
        kind: [str(name) for name in given] if isinstance(given, dict) else []
        for kind, given in named.items()
    }
    lost = {n for n in written["modalities"] if n not in spec.modalities or not n.isidentifier()}
    gone = {n for n in written["tasks"] if n not in spec.tasks or not n.isidentifier()}
    gone |= {name.removeprefix("tasks.") for name in sections if name.startswith("tasks.")}
    left = spec.without(modalities=lost, tasks=gone, index="index" in sections)
    plain: dict[str, Any] = {"pairing": PairingKeys(), "prompts": {}, "noisy_pairs": None}
    changes = {section: plain[section] for section in plain if section in sections}
    keys = left.keys.model_copy(update=changes)
    return replace(left, keys=keys, left_out=left.left_out.union(changes))


def _modality(name: str, section: dict[str, Any], faults: _Faults) -> ModalitySpec | None:
    path = f"modalities.{name}"
    section = _respelt(section, ("kind", "reader"), path, faults)
    section = _nearest_reader(section, path, faults)
    kind = kind_of(section)
    if not isinstance(kind, str) or kind not in ADAPTERS:
        faults.invalid(_unknown_kind(path, section))
        return None
    reader = section.get("reader")
    if reader is not None and _reader_fault(kind, reader):
        faults.invalid(f"'{path}.reader': {_reader_fault(kind, reader)}")
        return None
    model = ADAPTERS[kind].Source
    own = set(ModalityKeys.model_fields)
    foreign = set(model.model_fields)
    section = _respelt(section, tuple(own | foreign), path, faults)
    values = {k: v for k, v in section.items() if k in foreign or k not in own}
    source = _validate(model, values, path, faults, beside=own)
    shared = {k: v for k, v in section.items() if k in own}
    keys = _validate(ModalityKeys, shared, path, faults)
    if source is None or keys is None:
        return None
    return ModalitySpec(name=name, kind=kind, keys=keys, source=source)


def _nearest_reader(section: dict[str, Any], path: str, faults: _Faults) -> dict[str, Any]:
    """Note a reader that is not known, and go on with the nearest if there is one."""
    reader = section.get("reader")
    if not isinstance(reader, str) or reader in readers() or reader == "npy":
        return section
    near = closest(reader, {*readers(), "npy"})
    if near is None:
        return section
    faults.invalid(f"'{path}.reader': {_reader_fault('', reader)}")
    return {**section, "reader": near}


def _reader_fault(kind: str, reader: object) -> str | None:
    """Say what is wrong with a reader that is not known, or that reads another kind."""
    if reader == "npy":
        return None
    if reader in ("csv", "tsv"):
        return (
            f"unknown reader '{reader}': files with a row a sample are read by `parquet` (ECG), a "
            "table of everybody by `table` or `events`"
        )
    if not isinstance(reader, str) or reader not in readers():
        near = nearest(str(reader), {*readers(), "npy"})
        elsewhere = "; one of another package: `medmcl parts` lists what is installed here"
        return f"unknown reader '{reader}'{near}{'' if 'did you mean' in near else elsewhere}"
    if kind not in readers()[reader]:
        return f"'{reader}' reads kind '{readers()[reader][0]}', and kind says '{kind}'"
    return None


def _task(name: str, section: dict[str, Any], faults: _Faults) -> Task | None:
    path = f"tasks.{name}"
    section = _respelt(section, ("kind",), path, faults)
    kind = section.get("kind")
    if not isinstance(kind, str) or kind not in TASKS:
        faults.invalid(f"'{path}.kind' is not a kind of task: {kind!r}{nearest(str(kind), TASKS)}")
        near = closest(kind, TASKS) if isinstance(kind, str) else None
        if near is None:
            return None
        kind, section = near, {**section, "kind": near}
    return _validate(TASKS[kind], section, path, faults)


def _respelt(
    section: dict[str, Any], wanted: tuple[str, ...], path: str, faults: _Faults
) -> dict[str, Any]:
    """Note a misspelt key that says how to read the others, and go on as if it were right."""
    missing = [key for key in wanted if key not in section]
    renamed = {}
    for key in section:
        is_known = key in wanted or key in ModalityKeys.model_fields
        meant = None if is_known else closest(str(key), missing)
        if meant is not None and key not in _all_keys():
            faults.unknown_key(f"{path}.{key}", f"; did you mean '{meant}'?")
            renamed[key] = meant
            missing.remove(meant)
    return {renamed.get(key, key): value for key, value in section.items()}


def _validate(
    model: type[C],
    values: Mapping[str, Any],
    path: str,
    faults: _Faults,
    beside: Collection[str] = (),
) -> C | None:
    """Check values; unknown keys are noted and taken out, whatever else is wrong gives None."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        details = error.errors()
    dot = f"{path}." if path else ""
    unknown = [detail for detail in details if detail["type"] == "extra_forbidden"]
    for detail in details:
        if detail["type"] == "extra_forbidden":
            key = ".".join(map(str, detail["loc"]))
            if len(detail["loc"]) == 1:
                known = {field.alias or name for name, field in model.model_fields.items()}
                hint = nearest(key, known.union(beside))
            else:
                hint = explain(model, detail, values).split("'", 2)[2]
            faults.unknown_key(f"{dot}{key}", hint)
        else:
            faults.invalid(_explain(model, detail, values, dot))
    if len(unknown) < len(details):
        return None
    rest = _without(values, [detail["loc"] for detail in unknown])
    return _validate(model, rest, path, faults, beside)


def _explain(model: type[BaseModel], detail: Any, values: Mapping[str, Any], dot: str) -> str:
    text = explain(model, detail, values)
    if dot and text.startswith("'(top level)'"):
        return text.replace("(top level)", dot.removesuffix("."), 1)
    return text.replace("'", f"'{dot}", 1) if dot and text.startswith("'") else text


def _without(values: Mapping[str, Any], places: list[tuple[Any, ...]]) -> dict[str, Any]:
    result = dict(values)
    for head in {place[0] for place in places}:
        inner = [place[1:] for place in places if place[0] == head]
        if any(not rest for rest in inner):
            del result[head]
        elif isinstance(result[head], Mapping):
            result[head] = _without(result[head], inner)
        else:
            items = list(result[head])
            for number in {rest[0] for rest in inner}:
                below = [rest[1:] for rest in inner if rest[0] == number]
                items[number] = _without(items[number], below)
            result[head] = items
    return result


def _references(
    keys: CohortKeys,
    modalities: Mapping[str, Any],
    tasks: Mapping[str, Task | None],
    left_out: Collection[str],
) -> list[tuple[str, str]]:
    """Give (section, what is wrong) for names that must be defined elsewhere in the file."""
    used = {
        "pairing.anchor": keys.pairing.anchor,
        "index.modality": keys.index.modality if keys.index else None,
        **{f"tasks.{name}.of": task.of for name, task in tasks.items() if task is not None},
    }
    faults = [
        (
            field.removesuffix(".of").removesuffix(".anchor").removesuffix(".modality"),
            f"'{field}': there is no modality '{name}'{nearest(name, modalities)}",
        )
        for field, name in used.items()
        if name is not None and name not in modalities
    ]
    for task in keys.prompts:
        if task not in tasks:
            faults.append(("prompts", f"'prompts': no task '{task}'{nearest(task, tasks)}"))
    for name, given in tasks.items():
        dated = isinstance(given, SurvivalKeys) and given.dated
        if dated and keys.index is None and "index" not in left_out:
            what = f"'tasks.{name}' counts from an index date, and there is no 'index:'"
            faults.append((f"tasks.{name}", what))
    if keys.noisy_pairs is not None and keys.noisy_pairs.share:  # without it nothing reads them
        faults += _noisy_references(keys.noisy_pairs, modalities, tasks)
    return faults


def _noisy_references(
    keys: NoisyPairsKeys, modalities: Mapping[str, Any], tasks: Mapping[str, Task | None]
) -> list[tuple[str, str]]:
    """Faults of names under ``noisy_pairs:``."""
    faults = []
    if keys.modality not in modalities:
        hint = nearest(keys.modality, modalities)
        faults.append(f"'noisy_pairs.modality': there is no modality '{keys.modality}'{hint}")
    elif len(modalities) < 2:
        faults.append(f"'noisy_pairs': there is no modality beside '{keys.modality}' to pair with")
    if keys.task is not None and keys.task not in tasks:
        hint = nearest(keys.task, tasks)
        faults.append(f"'noisy_pairs.task': there is no task '{keys.task}'{hint}")
    elif isinstance(tasks.get(str(keys.task)), RegressionKeys | SurvivalKeys):
        faults.append(
            f"'noisy_pairs.task': '{keys.task}' has no label sets; name a binary, multiclass or "
            "multilabel task"
        )
    return [("noisy_pairs", what) for what in faults]


def _unknown_kind(path: str, section: Mapping[str, Any]) -> str:
    if section.get("kind") is not None:
        return f"'{path}.kind': unknown kind{nearest(str(section['kind']), ADAPTERS)}"
    if "reader" not in section:
        return f"'{path}' needs a reader (known: {', '.join(sorted(readers()))}, npy)"
    if section["reader"] == "npy":
        return f"'{path}' needs a kind beside reader: npy ({', '.join(sorted(ADAPTERS))})"
    return f"'{path}.reader': {_reader_fault('', section['reader'])}"


def refuse(findings: list[Finding], where: str) -> CohortError:
    """Give one error for several findings."""
    if len(findings) == 1:
        one = findings[0]
        return CohortError(f"{one.what} [{one.code}]", where=one.where, fix=one.fix)
    what = f"{len(findings)} faults:\n{listed(findings)}"
    return CohortError(what, where=where, fix="`medmcl check` shows all of them")


def listed(findings: list[Finding], shown: int = 20) -> str:
    """Give the first few findings with their codes and fixes, and the number of the others."""
    lines = [f"  - {f.where}: {f.what} [{f.code}]\n    to fix: {f.fix}" for f in findings[:shown]]
    if len(findings) > shown:
        lines.append(f"  … and {len(findings) - shown} more")
    return "\n".join(lines)
