"""Commands that write, a family each; and what each of them is given, and leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Family:
    """A command that writes.

    Attributes:
        name: What it is called in the study.
        words: Of the command line; HOME stands for what was made before, HERE for the folder of the
            trial, OUT for what it writes there.
        out: Name of what it writes.
        brings: Names below HOME that are copied to HERE first: what the command changes.
        before: Commands typed in HERE first.
        is_drawn: Whether what it writes is drawn anew each time: files are compared by name.
        reads: Reads what a command that draws has written in HERE, and fails where that is not
            whole.
    """

    name: str
    words: str
    out: str = "out"
    brings: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    is_drawn: bool = False
    reads: Callable[[Path], object] = id


def read_release(folder: Path) -> None:
    """Read a noisy release, and the ledger that paid for it."""
    from medmcl.cooccurrence.exchange.folder import load_counts, read_manifest

    load_counts(folder / "out")
    assert read_manifest(folder / "out").release is not None
    read_paid(folder)


def read_paid(folder: Path) -> None:
    """Read a ledger that was charged, once a try at most."""
    from medmcl.cooccurrence.release.ledger import Ledger

    assert 1 <= Ledger(folder / "sites" / "north.ledger.json").spent().releases <= TRIES


def read_share(folder: Path) -> None:
    """Read a share, and the keys that know of it."""
    from medmcl.cooccurrence.exchange.secure_files import load_keys, load_share

    share = load_share(folder / "share.safetensors")
    assert share.round in load_keys(folder / "sites" / "north.keys.json").spent


def read_pair(folder: Path) -> None:
    """Read a seed that is in the keys of who drew it."""
    from medmcl.cooccurrence.exchange.secure_files import load_keys, load_seed

    seed = load_seed(folder / "seed.json", "south", "north")
    assert load_keys(folder / "north.keys.json").seeds == {"south": seed}


def read_released(folder: Path) -> None:
    """Read what the register, and the counts, remember of the one release that was made."""
    from medmcl.cooccurrence.release.register import Register

    register = Register(folder.with_name(f"{folder.name}-register"))
    assert len(register.past()) == len(register.past([folder / "a"])) == 1


def read_round(folder: Path) -> None:
    """Read a round."""
    (file,) = folder.rglob("round.json")
    assert len(json.loads(file.read_text("utf-8"))["name"]) > 20


TRIES = 4
"""How often a command is typed at most, in a trial."""
TRAIN = "--cohort HOME/cohort --recipe HOME/recipe.yaml --device cpu --workers 2"
RUN = "HOME/run --cohort HOME/cohort --out OUT --device cpu --workers 2"
ROUND = "--site north --site south --site west"
PRIVATE = "--clip codes=2 --clip concepts=2 --epsilon 1 --delta 1e-6 --allow-noise"
INPUTS = "--cohort HOME/cohort --recipe HOME/recipe.yaml --workers 0"
FAMILIES = [
    Family("pretrain", f"pretrain {TRAIN} --out OUT"),
    Family("pretrain, stages at the same time", "pretrain --cohort HOME/cohort --recipe "
           "HOME/heads.yaml --device cpu --workers 2 --out OUT"),
    Family("pretrain --resume", f"pretrain {TRAIN} --out OUT --resume"),
    Family("pretrain --reuse", f"pretrain {TRAIN} --out OUT --reuse HOME/run:contrast"),
    Family("pretrain --keep", f"pretrain {TRAIN} --out OUT --keep HOME/keep.parquet"),
    Family("evaluate", f"evaluate {RUN}"),
    Family("evaluate --embeddings", "evaluate --embeddings HOME/vectors.parquet --cohort "
           "HOME/cohort --out OUT --workers 0 --predictions HERE/people.csv"),
    Family("benchmark", "benchmark HOME/suite.yaml --cohort HOME/cohort --out OUT --device cpu "
           "--embeddings HOME/vectors.parquet --run HOME/run"),
    Family("embed", f"embed {RUN}", "vectors.parquet"),
    Family("embed --shard", f"embed {RUN} --shard 2/2", "vectors.parquet",
           before=(f"embed {RUN} --shard 1/2",)),
    Family("export", "export HOME/run --out OUT --modality labs --format hf"),
    Family("predict", f"predict {RUN}", "risks.csv"),
    Family("select", f"select {RUN} --by neg_clip_loss:0.8", "keep.parquet"),
    Family("poison", "poison --cohort HOME/squares --recipe HOME/poison.yaml --out OUT "
           "--workers 0"),
    Family("prepare", f"prepare {INPUTS} --out OUT"),
    Family("prepare --shard", f"prepare {INPUTS} --out OUT --shard 2/2",
           before=(f"prepare {INPUTS} --out OUT --shard 1/2",)),
    Family("check", f"check {INPUTS}"),
    Family("check --shard", f"check {INPUTS} --shard 2/2", before=(f"check {INPUTS} --shard 1/2",)),
    Family("check --screen", "check --cohort HOME/cohort --screen HOME/run --out OUT --device cpu "
           "--workers 0 --modality labs --k 4"),
    Family("simulate", "simulate ehr --out OUT --subjects 20 --set codes=6 --set concepts=5"),
    Family("simulate, over an earlier one", "simulate ehr --out OUT --subjects 20 --set codes=6 "
           "--set concepts=5 --set overwrite=true",
           before=("simulate ehr --out OUT --subjects 20 --set codes=6 --set concepts=5",)),
    Family("shards", "shards --cohort HOME/squares --out OUT"),
    Family("cooccur count", "cooccur count HOME/ehr.yaml --out OUT"),
    Family("cooccur count --shard", "cooccur count HOME/ehr.yaml --out OUT --shard 2/2",
           before=("cooccur count HOME/ehr.yaml --out OUT --shard 1/2",)),
    Family("cooccur to-meds", "cooccur to-meds HOME/events.yaml --out OUT"),
    Family("cooccur rows", "cooccur rows HOME/ehr.yaml --out OUT", "rows.parquet"),
    Family("cooccur merge", "cooccur merge HOME/a HOME/b --other-people --out OUT"),
    Family("cooccur release", "cooccur release HERE/a --out OUT --min-patients 2", brings=("a",),
           reads=read_released),
    Family("cooccur release-private", "cooccur release-private HERE/sites/rows.csv --vocabulary "
           f"HERE/sites/vocabulary.csv --ledger HERE/sites/north.ledger.json {PRIVATE} --out OUT",
           brings=("sites",), is_drawn=True, reads=read_release),
    Family("cooccur budget", "cooccur budget HERE/sites/north.ledger.json --epsilon 9 --delta 1e-6",
           before=("rm HERE/sites/north.ledger.json",), brings=("sites",), is_drawn=True),
    Family("cooccur secure-pair", "cooccur secure-pair --site north --other south --keys "
           "HERE/north.keys.json --seed HERE/seed.json", is_drawn=True, reads=read_pair),
    Family("cooccur secure-pair, the second site", "cooccur secure-pair --site south --other north "
           "--keys HERE/south.keys.json --seed HERE/seed.json", is_drawn=True,
           before=("cooccur secure-pair --site north --other south --keys HERE/north.keys.json "
                   "--seed HERE/seed.json",)),
    Family("cooccur secure-start", f"cooccur secure-start HOME/a {ROUND} --out OUT",
           is_drawn=True, reads=read_round),
    Family("cooccur secure-share", "cooccur secure-share HOME/a --keys HERE/sites/north.keys.json "
           "--round HERE/sites/secure --out OUT", "share.safetensors", brings=("sites",),
           reads=read_share),
    Family("cooccur secure-sum", "cooccur secure-sum HOME/shares/north HOME/shares/south "
           "HOME/shares/west --round HOME/sites/secure --out OUT"),
    Family("cooccur embed", "cooccur embed HOME/a --out OUT --set rank=3"),
    Family("cooccur merge-embeddings", "cooccur merge-embeddings HOME/vectors-c HOME/vectors-d "
           "--out OUT"),
    Family("cooccur evaluate", "cooccur evaluate HOME/vectors-a --relations HOME/relations.csv "
           "--out OUT"),
]  # fmt: skip
WRITES_NOTHING = {
    "recipes": "lists what ships", "parts": "lists what ships", "models": "lists what ships",
    "cohorts": "lists what ships", "cooccur listed": "says how much a vocabulary lists",
    "launch": "starts another command",
}  # fmt: skip
"""Commands without a family, and why."""
