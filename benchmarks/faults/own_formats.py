"""What medmcl writes of itself: a sound example of each file, and how it is read."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.form import Format, RefusedError
from benchmarks.faults.toy import home_once

SITES = ("north", "south", "west")
BUDGET = {"epsilon": 3.0, "delta": 1e-6}
RUN_FILES = (
    "config.yaml", "preprocessing.json", "files.json", "provenance.json",
    "prediction.json", "prediction.safetensors", "train_records.safetensors", "probes/ill.0.json",
    "probes/ill.0.safetensors", "checkpoint/within/best.json", "checkpoint/within/last.json",
    "checkpoint/within/done.json",
)  # fmt: skip
WEIGHTS = "checkpoint/within/step-00000001/weights.safetensors"


def run(folder: Path) -> None:
    """Copy a run."""
    shutil.copytree(home_once() / "run", folder, dirs_exist_ok=True)


def read_run(folder: Path) -> Any:
    """Read all that evaluating, embedding and predicting read of a run."""
    import torch

    from medmcl.stages.evaluate.saved_probes import load_probes
    from medmcl.stages.predict.saved import load_prediction
    from medmcl.stages.run.run import Run

    found = Run(folder)
    weights = found.learner("within", torch.device("cpu")).state_dict()
    trees = [found.tree(name) for name in ("preprocessing", "provenance", "files", "could_name")]
    told = [
        {key: one for key, one in found.config.items() if key != "command"},
        *trees,
        found.facts("within"),
        sorted(found.tasks),
        repr(load_prediction(found)),
        [repr(one) for one in load_probes(found)],
        [(name, _digest(arrays)) for name in ("train_records", "prediction")
         if (arrays := found.arrays(name)) is not None],
    ]  # fmt: skip
    weighed = {name: value.numpy() for name, value in weights.items()}
    return json.dumps([told, _digest(weighed)], default=str, sort_keys=True)


def _digest(arrays: Any) -> str:
    digest = hashlib.blake2b()
    for name, value in sorted(arrays.items()):
        digest.update(f"{name} {value.dtype} {value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


RECIPE = """extends: ecg_mdm_toy
about: a recipe of somebody's own
drop: [results.covariates, inputs.ecg.clip_sigma]
insert:
  results:
    - {stage: train, name: again, towers: [ecg], batch_size: 32, steps: 20, start_from: {ecg: mdm},
       objectives: {masked: {modality: ecg, view: masked, over: all}}}
set:
  towers.ecg.encoder: {name: ecg_vit, patch: 25, width: 64, depth: 2, heads: 4}
  stages.mdm.steps: 30
  stages.mdm.batch_size: 16
"""


def recipe(folder: Path) -> None:
    """Write a recipe."""
    (folder / "recipe.yaml").write_text(RECIPE)


def read_recipe(folder: Path) -> Any:
    """Read it as a command does."""
    from medmcl.stages.recipe.file import read_recipe as read

    return read(folder / "recipe.yaml").expanded(["sick"]).model_dump_json()


def ledger(folder: Path) -> None:
    """Write a ledger that two releases were charged to."""
    from medmcl.cooccurrence.release.ledger import Ledger
    from medmcl.cooccurrence.release.register import Register

    started = Ledger.start(folder / "budget.json", register=Register(folder / "reg"), **BUDGET)
    started.charge("counts of codes", 0.01)
    started.charge("counts of concepts", 0.02)


def read_ledger(folder: Path) -> Any:
    """Read what was spent."""
    from medmcl.cooccurrence.release.ledger import Ledger

    return Ledger(folder / "budget.json").read().model_dump_json()


def charge_ledger(folder: Path) -> Any:
    """Charge a ledger again, as the next release does; by what the register says of it."""
    from medmcl.cooccurrence.release.ledger import Ledger
    from medmcl.cooccurrence.release.register import Register

    with tempfile.TemporaryDirectory() as aside:
        place = Path(shutil.copytree(folder, Path(aside) / "ledger"))
        found = Ledger(place / "budget.json", Register(place / "reg"))
        return found.charge("a third", 0.01).model_dump_json()


def _keys() -> list[Any]:
    from medmcl.cooccurrence.exchange.secure import SiteKeys

    seed = bytes(range(32))
    return [SiteKeys(one, {other: seed for other in SITES if other != one}) for one in SITES]


def secure_round(folder: Path) -> None:
    """Write keys, a round and two shares."""
    from medmcl.cooccurrence.exchange.flat import layout_of
    from medmcl.cooccurrence.exchange.secure import Round
    from medmcl.cooccurrence.exchange.secure_files import save_keys, save_round, save_share
    from tests.support.small_counts import some_counts

    counts = some_counts()
    turn = Round("spring", SITES, layout_of(counts).digest)
    save_round(turn, folder / "round.json")
    for keys in _keys():
        save_keys(keys, folder / f"{keys.site}.keys.json")
        save_share(keys.share(counts, turn), folder / f"{keys.site}.safetensors")


def read_shares(folder: Path) -> Any:
    """Add the shares of a round."""
    from medmcl.cooccurrence.exchange.flat import layout_of
    from medmcl.cooccurrence.exchange.secure import add_shares
    from medmcl.cooccurrence.exchange.secure_files import load_round, load_share
    from tests.support.small_counts import numbers, some_counts

    turn = load_round(folder / "round.json")
    shares = [load_share(folder / f"{site}.safetensors") for site in SITES]
    return repr(numbers(add_shares(shares, turn, layout_of(some_counts()))))


def read_keys(folder: Path) -> Any:
    """Read the keys of a site."""
    from medmcl.cooccurrence.exchange.secure_files import load_keys

    found = load_keys(folder / "north.keys.json")
    return [found.site, {name: seed.hex() for name, seed in found.seeds.items()}, [*found.spent]]


def _people(first: int) -> Any:
    from medmcl.cooccurrence.count.people import named

    return named(np.arange(first, first + 40, dtype=np.uint64), "subjects")


def patients(folder: Path) -> None:
    """Write a register that remembers whose budget was charged."""
    from medmcl.cooccurrence.release.ledger import Ledger
    from medmcl.cooccurrence.release.register import Register

    started = Ledger.start(folder / "budget.json", register=Register(folder / "reg"), **BUDGET)
    started.charge("counts of codes", 0.01, [_people(40)])


def read_patients(folder: Path) -> Any:
    """Ask whether other patients have a budget, as a release does."""
    from medmcl.cooccurrence.release.register import Register

    return repr(Register(folder / "reg").refuse_private([_people(200)]))


def prepared(folder: Path) -> None:
    """Write prepared records into a cache."""
    from medmcl.core.findings import record_finding
    from medmcl.data.loading.cache import write_entry
    from medmcl.data.loading.reading import Outcome, content_digest

    rows = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    odd = (record_finding("tabular", "gap_code", "record 3", "999", "say na", "warning"),)
    made = [Outcome(row, content_digest(row), odd if n == 3 else (), row[:2], held=24)
            for n, row in enumerate(rows)]  # fmt: skip
    write_entry(folder, "entry", "labs", made, (6,), len(rows))


def read_prepared(folder: Path) -> Any:
    """Read them; those that are not as they were written are made anew."""
    from medmcl.data.loading.cache import read_entry

    found = read_entry(folder, "entry", "labs", 8)
    if found is None:
        raise RefusedError
    rows = [np.asarray(found.rows[[n]]).tolist() for n in range(8)]
    return repr((rows, found.usable, found.digests, found.findings, found.sketches, found.held))


def parts(folder: Path) -> None:
    """Write a part of a count that goes on."""
    from medmcl.cooccurrence.count.parts import PartWriter, Shard

    PartWriter(folder / "part-0.npz", "settings").after(
        Shard(folder / "events", "0" * 32), _counter(), last=True
    )


def _counter() -> Any:
    from medmcl.cooccurrence.count.counter import PairCounter
    from medmcl.cooccurrence.count.rules import Rules
    from tests.support.small_counts import vocabularies

    return PairCounter(vocabularies(3, 2), Rules())


def read_parts(folder: Path) -> Any:
    """Go on from a part."""
    from medmcl.cooccurrence.count.parts import absorb_parts, list_parts, state_of

    found = list_parts(folder)
    counter = _counter()
    absorb_parts(counter, found)
    state = {name: value.tolist() for name, value in state_of(counter).items()}
    return repr(([(one.shards, one.settings) for one in found], state))


def own_formats() -> dict[str, Format]:
    """What medmcl writes of itself, by name."""
    return {
        "files of a run": Format(run, read_run, RUN_FILES, sealed=True),
        "local.json of a run": Format(run, read_run, ("local.json",)),
        "weights of a run": Format(run, read_run, (WEIGHTS,), sealed=True),
        "recipe": Format(recipe, read_recipe, ("recipe.yaml",)),
        "ledger": Format(ledger, read_ledger, ("budget.json",), sealed=True),
        "register": Format(ledger, charge_ledger, ("reg/register.json",), sealed=True),
        "patients of a register": Format(
            patients, read_patients, (f"reg/people/{_people(40).site}.npy",), sealed=True),
        "prepared records": Format(prepared, read_prepared, (
            "entry/labs.npy", "entry/labs.json", "entry/labs.sketches.npy"), sealed=True),
        "parts of a count": Format(parts, read_parts, ("part-0.npz",)),
        "shares": Format(secure_round, read_shares, tuple(f"{one}.safetensors" for one in SITES),
                         sealed=True),
        "round of a secure sum": Format(secure_round, read_shares, ("round.json",), sealed=True),
        "keys of a site": Format(secure_round, read_keys, ("north.keys.json",)),
    }  # fmt: skip
