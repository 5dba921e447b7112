"""Files of a run as a loss of power leaves them, and what commands make of them.

    python -m benchmarks.faults.power_loss [--how flipped] [--command embed]

Every file that a run keeps is cut to its half, emptied, zeroed from its middle on, changed in one
bit, or taken away. A run that was killed in its second stage is resumed; a finished one is
evaluated, embeds and predicts. A command gives what it gives of whole files, or says in one message
which file is damaged; what that tells to do is done, and must lead there. Finished stages to which
the file does not belong are never trained again.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.faults import toy
from benchmarks.study import Row, Study, table

RESUME = f"pretrain {toy.TRAIN} --out RUN --resume"
COMMANDS = {
    "resume": RESUME,
    "evaluate": "evaluate RUN --cohort HOME/cohort --out OUT --device cpu --workers 0",
    "embed": "embed RUN --cohort HOME/cohort --out OUT/e.parquet --device cpu --workers 0",
    "predict": "predict RUN --cohort HOME/cohort --out OUT/risks.csv --device cpu --workers 0",
}
WRITTEN = (".html", ".md", ".svg", ".csv", ".part", "/report.json", "/table_one.json")
"""Endings of what a report writes for people, and no command reads; and of parts."""


def files_of(run: Path) -> list[str]:
    """Files that a run keeps for itself."""
    every = (one.relative_to(run).as_posix() for one in sorted(run.rglob("*")) if one.is_file())
    return [one for one in every if not f"/{one}".endswith(WRITTEN)]


def told(name: str, how: str, command: str, home: Path, work: Path, whole: Any) -> Row:
    """Damage a file of a copy of a run, and give what a command makes of it."""
    from tests.support.damaged import damage

    folder = work / "trial" / "here"
    shutil.rmtree(folder.parent, ignore_errors=True)
    folder.mkdir(parents=True)
    run = folder / "run"
    shutil.copytree(home / ("killed" if command == "resume" else "run"), run)
    trained = weights_of(run, name)
    damage(run / name, how)
    place = toy.Place(home, folder)
    words = worded(COMMANDS[command], home, folder)
    answer, hints = toy.go_on(place, words)
    first = place.said[0]
    if answer.code == 2 and "--resume" in answer.said:  # as the message of a finished run says
        hints.append("pretrain")
        for one in toy.hinted(worded(RESUME, home, folder), answer.said)[:-1]:
            toy.remove(Path(one[1]))
        place.type(worded(RESUME, home, folder))
        answer = place.type(words)
    return {
        "by hint": bool(hints),
        "untold": bool(hints) and Path(name).name not in first,
        "trained again": weights_of(run, name) != trained,
        "wrong": answer.code == 0 and shown(folder, command) != whole[command],
        "tracebacks": toy.is_traceback("".join(place.said)),
        "stuck": answer.code not in (0, None),
        "hangs": answer.code is None,
        "said": place.said,
    }


def weights_of(run: Path, name: str) -> dict[Path, int]:
    """When the weights of finished stages were written to which a file does not belong."""
    done = [one.parent for one in run.glob("checkpoint/*/done.json")]
    own = Path(name).parts[1] if name.startswith("checkpoint/") else ""
    return {file: file.stat().st_mtime_ns for stage in done if stage.name not in (own, "within")
            for file in stage.glob("*/weights.safetensors")}  # fmt: skip


def worded(text: str, home: Path, folder: Path) -> list[str]:
    """The words of a command."""
    for name, path in (("HOME", home), ("RUN", folder / "run"), ("OUT", folder / "out")):
        text = text.replace(name, str(path))
    return shlex.split(text)


def shown(folder: Path, command: str) -> dict[str, str]:
    """What a command gives: weights and results of a run, a report, embeddings."""
    if command != "resume":
        return toy.results(folder / "out")
    kept = ("results.csv", "weights.safetensors", "done.json", ".parquet", "config.yaml")
    found = toy.results(folder / "run")
    return {name: one for name, one in found.items() if name.endswith(kept)}


BAD = ("wrong", "tracebacks", "stuck", "hangs", "untold", "trained again")


def tried(hows: list[str], commands: list[str], made: list[Row]) -> Iterator[list[Row]]:
    """Damage every file in some ways; all rows so far, after each file, with those of before."""
    import torch._dynamo  # noqa: F401 - imported once, for all forks

    import medmcl.evaluation.report.page as page
    import medmcl.stages.evaluate.evaluate
    import medmcl.stages.run.pretrain  # noqa: F401 - likewise

    page.pages = lambda *_: ("", "")  # read by people alone, and most of the time
    known = {(one["file"], one["command"]): one for one in made}
    with tempfile.TemporaryDirectory(prefix="power-") as there:
        work = Path(there)
        home = work / "home"
        toy.make_home(home)
        killed = toy.Place(home, home)
        words = worded(RESUME.replace("RUN", "HOME/killed"), home, home)
        assert killed.type(words, at="within/done.json").code == -9
        whole = {}
        for command in commands:
            folder = work / "trial" / "here"
            shutil.rmtree(folder.parent, ignore_errors=True)
            folder.mkdir(parents=True)
            shutil.copytree(home / ("killed" if command == "resume" else "run"), folder / "run")
            answer = toy.Place(home, folder).type(worded(COMMANDS[command], home, folder))
            if answer.code != 0:
                raise RuntimeError(answer.said)
            whole[command] = shown(folder, command)
        for command in commands:
            for name in files_of(home / ("killed" if command == "resume" else "run")):
                before = known.get((name, command), {"tried": [], "by hint": [], "bad": []})
                row = {"file": name, "command": command}
                for key, old in before.items():
                    if isinstance(old, list):
                        row[key] = [one for one in old if one.partition(": ")[0] not in hows]
                for how in hows:
                    found = told(name, how, command, home, work, whole)
                    row["tried"].append(how)
                    row["by hint"] += [how] * found["by hint"]
                    row["bad"] += [f"{how}: {key}" for key in BAD if found[key]]
                    if any(found[key] for key in BAD):
                        print(name, how, *found["said"], found, sep="\n", flush=True)
                known[name, command] = row
                yield list(known.values())


def parts(rows: list[Row]) -> dict[str, str]:
    def outcome(command: str) -> Any:
        def cell(row: Row) -> str:
            one = row.get(command)
            if one is None:
                return ""
            hints, bad = len(one["by hint"]), len(one["bad"])
            told = f"{len(one['tried']) - hints} + {hints}"
            return told + (f"; **{bad} faults**" if bad else "")

        return cell

    files: dict[str, Row] = {}
    for row in rows:
        files.setdefault(row["file"], {"file": f"`{row['file']}`"})[row["command"]] = row
    columns = {"file": "file", **{one: outcome(one) for one in COMMANDS}}
    return {
        "files": table(columns, list(files.values())),
        "trials": str(sum(len(row["tried"]) for row in rows)),
        "bad": str(sum(len(row["bad"]) for row in rows)),
        "by hint": str(sum(len(row["by hint"]) for row in rows)),
    }


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--how", action="append", help="only so; repeatable")
    parser.add_argument("--command", action="append", help="only this; repeatable")


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    """Damage files in all ways, or some."""
    from tests.support.damaged import DAMAGE

    before = STUDY.kept(given.out) or []
    return tried(given.how or list(DAMAGE), given.command or list(COMMANDS), before)


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
