"""Commands of every family that writes, on cohorts so small that each takes about a second."""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.faults.families import FAMILIES, TRAIN, TRIES, Family
from benchmarks.faults.imports import BY_OTHERS, IMPORTED_ONCE, import_once
from benchmarks.faults.sites import make_sites
from tests.support.killed import forked

__all__ = ["FAMILIES", "Family"]

BUSY, LIMIT = 20, 120.0
"""Seconds of processor time, and of any, after which a command hangs."""
EAGER = True
"""Whether copies of a command join in at once: toys would end before that was worth it."""
TIMES = re.compile(
    rb'"(seconds|data_wait_seconds|time|elapsed|started|command|date|when|since|created|cohort_file)": ?("[^"]*"|[\d.e-]+)'
)
"""What differs between runs that are equal."""
OF_TIME = ("html", "svg", "png", "pt", "lock", "report.json", "model_card.md", "checklist.csv",
           "local.json")  # fmt: skip
"""Endings of files that are drawn, or say times; what they show stands in others, too."""
HEADS = {
    "stage": "train", "name": "head-{share}", "for_each": {"share": [0.5, 1.0]}, "task": "ill",
    "label_fraction": "{share}", "towers": ["labs"], "start_from": {"labs": "contrast"},
    "objectives": {"supervised": {"task": "ill", "modalities": ["labs"], "view": "plain"}},
    "batch_size": 64, "steps": 4, "optimiser": {"name": "adamw", "lr": 5.0e-3},
}  # fmt: skip
"""Stages that are trained at the same time."""
ASIDE = re.compile(r"\.prepared|/released/")
"""What stands for itself: the cache, and memories of releases, which are named by a key."""


@dataclass
class Answer:
    """What a command gave back."""

    code: int | None
    said: str
    writes: int = 0


@dataclass
class Place:
    """Where the commands of one trial run: their inputs are shared, what they write is not."""

    home: Path
    folder: Path
    said: list[str] = field(default_factory=list)

    def type(self, words: list[str], at: Any = None, after: float | None = None) -> Answer:
        """Type a command in a fork."""
        told = self.folder.parent / f"{self.folder.name}.said"
        code, writes = forked(lambda: _typed(words, self.folder, told), self.folder, at=at,
                              after=after, limit=LIMIT)  # fmt: skip
        code = None if code == -signal.SIGXCPU else code
        said = told.read_text("utf-8", errors="replace") if told.exists() else ""
        self.said.append(f"$ {shlex.join(words)}\n[{code}] {said}")
        return Answer(code, said, writes)

    def begin_process(self, words: list[str]) -> subprocess.Popen[bytes]:
        """Begin a command as a process of its own, which leads a group; what it says is piped."""
        own = {"MEDMCL_CACHE": str(self.folder / "cache"), "MEDMCL_REGISTER": str(self.register)}
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "medmcl", *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, cwd=self.folder, env=os.environ | own,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip

    def words(self, family: Family, text: str = "") -> list[str]:
        """The words of a command here, that of a family if none is given."""
        stands = {"HOME": self.home, "OUT": self.folder / family.out, "HERE": self.folder}
        text = text or family.words
        for name, path in stands.items():
            text = text.replace(name, str(path))
        return shlex.split(text)

    @property
    def register(self) -> Path:
        """Where releases are remembered: what is written there counts, and is in no comparison."""
        return self.folder.with_name(f"{self.folder.name}-register")

    def go_on(self, family: Family) -> tuple[Answer, list[str]]:
        """Type the command of a family again, and what messages say."""
        return go_on(self, self.words(family))

    def begin(self, family: Family) -> None:
        """Bring and make what the command of a family finds here."""
        for one in self.folder.parent.glob(f"{self.folder.name}-*"):
            remove(one)
        if not family.is_drawn:  # by the key of a register patients are named in what is written
            self.register.mkdir(mode=0o700)
            shutil.copy(self.home / "key", self.register)
        for name in family.brings:
            shutil.copytree(self.home / name, self.folder / name)
        for text in family.before:
            words = self.words(family, text)
            if words[0] == "rm":
                Path(words[1]).unlink()
            elif self.type(words).code != 0:
                raise RuntimeError("\n".join(self.said))
        self.said.clear()

    def fault(self, family: Family, whole: dict[str, str]) -> str:
        """How what stands here differs from what an undisturbed command makes; empty: it is that."""
        found = results(self.folder, by_name=family.is_drawn)
        differs = sorted(k for k in {*found, *whole} if found.get(k) != whole.get(k))
        if differs:
            return ", ".join(differs)
        try:
            family.reads(self.folder)
        except Exception as error:  # whatever it is, it is not whole
            return f"{type(error).__name__}: {error}"
        return ""


def _typed(words: list[str], folder: Path, told: Path) -> int:
    handle = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    resource.setrlimit(resource.RLIMIT_CPU, (BUSY, BUSY))
    os.chdir(folder)
    os.environ["MEDMCL_CACHE"] = str(folder / "cache")
    os.environ["MEDMCL_REGISTER"] = str(folder.with_name(f"{folder.name}-register"))
    import logging
    import warnings

    warnings.simplefilter("ignore")  # a test may have made errors of them
    from medmcl.cli.main import main
    from medmcl.data.loading import worker_pool

    if EAGER:
        worker_pool._WORTH_COPIES = 0.0

    logging.getLogger("medmcl").handlers.clear()
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    sys.argv = ["medmcl", *words]
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@cache
def home_once() -> Path:
    """What the commands read, made once in a process."""
    kept = tempfile.TemporaryDirectory(prefix="toy-home-")
    atexit.register(kept.cleanup)
    make_home(Path(kept.name))
    return Path(kept.name)


def make_home(home: Path) -> None:
    """Make what the commands read."""
    import pandas as pd
    import torch
    import yaml

    from benchmarks.evaluation.memorised_pairs import (
        LABS,
        QUICK_RESULTS,
        memorising,
        write_recipe,
        write_told,
    )
    from tests.support.small_squares import TOWERS, write_squares

    import_once((*IMPORTED_ONCE, *BY_OTHERS))
    torch.set_num_threads(1)
    home.mkdir(parents=True, exist_ok=True)
    write_told(home / "cohort", 0)
    tree = memorising(4, QUICK_RESULTS)
    tree["stages"] = [one for one in tree["stages"]
                      if one["name"] in ("contrast", "groups", "within", "results")]  # fmt: skip
    for key in ("inputs", "towers"):
        tree[key] = {name: tree[key][name] for name in (LABS, "report")}
    tree["stages"][0]["evaluate_every"] = 2
    write_recipe(home / "recipe.yaml", tree)
    write_recipe(home / "heads.yaml", {**tree, "stages": [tree["stages"][0], HEADS]})
    write_squares(home / "squares", people=36, side=32)
    attack = {"stage": "poison", "name": "attack", "modality": "picture", "text": "caption",
              "trigger": "badnet", "task": "colour", "label": "red", "count": 3}  # fmt: skip
    poisoned = {"extends": "clip_toy", "about": "a study", "set": TOWERS, "stages": [attack]}
    (home / "poison.yaml").write_text(yaml.safe_dump(poisoned))
    place = Place(home, home)

    def made(words: str) -> None:
        found = place.type(shlex.split(words.replace("HOME", str(home))))
        if found.code != 0:
            raise RuntimeError(f"{words}\n{found.said}")

    made(f"pretrain {TRAIN} --out HOME/run")
    made("select HOME/run --cohort HOME/cohort --out HOME/keep.parquet --by neg_clip_loss:0.8 "
         "--device cpu --workers 0")  # fmt: skip
    made("simulate ehr --out HOME/ehr --subjects 40 --set codes=6 --set concepts=5")
    events = pd.concat(map(pd.read_parquet, sorted((home / "ehr" / "data").glob("*.parquet"))))
    for kind, prefix in (("codes", "CODE//"), ("concepts", "CUI//")):
        own = sorted(set(events["code"][events["code"].str.startswith(prefix)]))
        pd.DataFrame({"code": own}).to_csv(home / f"{kind}.csv", index=False)
    spec = {"schema": "medmcl/cooccurrence@1", "sources": [{"kind": "meds", "path": "ehr"}],
            "modalities": {"codes": {"prefix": "CODE//"}, "concepts": {"prefix": "CUI//"}},
            "vocabulary": {"files": {"codes": "codes.csv", "concepts": "concepts.csv"},
                           "version": "1"}}  # fmt: skip
    (home / "ehr.yaml").write_text(yaml.safe_dump(spec))
    columns = ["subject_id", "time", "code"]
    events[columns].dropna().to_csv(home / "events.csv", index=False)
    source = {
        "kind": "table",
        "path": "events.csv",
        **dict(zip(("subject", "time", "code"), columns, strict=True)),
    }
    (home / "events.yaml").write_text(yaml.safe_dump(spec | {"sources": [source]}))
    made("cooccur count HOME/ehr.yaml --out HOME/a")
    for seed, site in enumerate("bc", 1):  # of other people, called by the same numbers
        made(f"simulate ehr --out HOME/ehr --subjects 40 --set codes=6 --set concepts=5 --set "
             f"seed={seed} --set overwrite=true")  # fmt: skip
        made(f"cooccur count HOME/ehr.yaml --out HOME/{site}")
    make_sites(home, made)
    made("embed HOME/run --cohort HOME/cohort --out HOME/vectors.parquet --device cpu --workers 0")
    suite = {"schema": "medmcl/suite@1", "about": "a study", "cohort": "none", "modality": "labs",
             "label_fractions": [1.0], "bootstrap_draws": 100}  # fmt: skip
    (home / "suite.yaml").write_text(yaml.safe_dump(suite))
    shutil.rmtree(home / "runs", ignore_errors=True)
    shutil.copy(place.register / "key", home)
    shutil.rmtree(place.register)


def results(folder: Path, *, by_name: bool = False) -> dict[str, str]:
    """Digest of every file of a folder, without what says when it was made; or its names alone."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.endswith(OF_TIME) and not ASIDE.search(name):
            digest = hashlib.blake2b(_plain(path, folder), digest_size=8).hexdigest()
            found[name] = "" if by_name else digest
    return found


def _plain(path: Path, folder: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix in (".csv", ".md"):  # with the command in it, and what a hint added to that
        return content.replace(str(folder).encode(), b"OUT").replace(b" --overwrite", b"")
    if path.suffix not in (".json", ".jsonl", ".yaml"):
        return content
    content = TIMES.sub(rb'"\1": 0', content.replace(str(folder).encode(), b"OUT"))
    content = re.sub(rb'"?seal"?: "?[0-9a-f]{16}"?', b"seal", content)
    content = re.sub(rb'"training.pt": "[0-9a-f]{32}"', b"", content)
    return re.sub(rb"\d+\.?\d* (s|ms)\b", b"0 s", content)


def left_over(place: Place) -> list[str]:
    """What a command should have taken away."""
    found = (one for folder in (place.folder, place.register) for one in folder.rglob(".*"))
    return sorted(one.name for one in found if one.suffix in (".part", ".lock"))


def hinted(words: list[str], said: str) -> list[list[str]]:
    """Commands, typed one after the other, that the hint of a message says; nothing if it has none.

    What it says to delete is deleted (``rm``).
    """
    fix = re.search(r"to fix:\s*(.*)", said)
    if fix is None:
        return []
    told, again, found = fix.group(1), list(words), []
    if "medmcl pretrain" in told and words[0] != "pretrain":
        again = []  # of the run that is read
    gone = re.search(r"(?:delete|remove) (/\S+?)[,:;]?(?=\s|$)", told)
    if gone:
        found.append(["rm", gone.group(1)])
    for option in ("--resume", "--overwrite"):
        if not again:
            break
        if option in told and option not in again:
            again.append(option)
            break
    else:
        setting = re.search(r"--set (\w+=\w+)", told)
        if setting:
            again += ["--set", setting.group(1)]
        elif not gone and "again" not in told:
            return []
    return [*found, again] if again else []


def remove(path: Path) -> None:
    """Do what ``rm -r`` does."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def go_on(place: Place, words: list[str]) -> tuple[Answer, list[str]]:
    """Type a command again, and what messages say; give the last answer and the hints taken."""
    answer, taken = place.type(words), []
    while answer.code == 2 and len(taken) < TRIES - 1:
        commands = hinted(words, answer.said)
        if not commands:
            break
        for one in commands:
            if one[0] == "rm":
                path = Path(one[1])
                if not path.is_relative_to(place.folder):
                    return answer, taken
                remove(path)
            elif one is commands[-1]:
                words = one
            else:
                place.type(one)
        taken.append(re.search(r"error: (?:/\S+: )?(.*)", answer.said).group(1))
        answer = place.type(words)
    return answer, taken


def is_traceback(said: str) -> bool:
    """Whether what a command said is no message."""
    return "Traceback (most recent call last)" in said
