"""What medmcl writes of itself: a sound example of each file, and how it is read."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.faults.form import Format
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


def own_formats() -> dict[str, Format]:
    """What medmcl writes of itself, by name."""
    return {
        "files of a run": Format(run, read_run, RUN_FILES, sealed=True),
        "local.json of a run": Format(run, read_run, ("local.json",)),
        "weights of a run": Format(run, read_run, (WEIGHTS,), sealed=True),
        "recipe": Format(recipe, read_recipe, ("recipe.yaml",)),
        "ledger": Format(ledger, read_ledger, ("budget.json",), sealed=True),
        "register": Format(ledger, charge_ledger, ("reg/register.json",), sealed=True),
        "shares": Format(secure_round, read_shares, tuple(f"{one}.safetensors" for one in SITES),
                         sealed=True),
        "round of a secure sum": Format(secure_round, read_shares, ("round.json",), sealed=True),
        "keys of a site": Format(secure_round, read_keys, ("north.keys.json",)),
    }  # fmt: skip
