"""How large the house is, and how much of it a run walks through.

``python -m benchmarks.engine.house --before CHECKOUT`` measures this checkout beside another one.
Code lines are lines without blanks, comments and docstrings. Functions are distinct functions and methods of medmcl (no bodies of classes or
modules, no lambdas, no comprehensions) that are entered between the call of `pretrain` and the first
backward pass of a loss, imports included: of ``clip_toy`` on simulated shapes (one train stage, two
modalities), and of ``ecg_cmr_toy`` on simulated hearts, whose whole run, a step a stage, also tells
how often a recipe is expanded and a learner built. Functions too complex are those of more than 10
paths after McCabe 1976, as ruff counts them (C901).
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import subprocess
import sys
import tempfile
import tokenize
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.study import ROOT, Study, commit, table

COUNTED = {"expand": "expand", "expanded": "expand", "build_learner": "build_learner"}
"""Functions whose calls are counted: what they are called, before or now, to what they do."""

WALK = """
import json, os, sys, tempfile
from collections import Counter
from inspect import CO_OPTIMIZED
from pathlib import Path
import torch
import medmcl
recipe, kind, whole = sys.argv[1:]
torch.set_num_threads(1)
home = str(Path(medmcl.__file__).parent)
entered, calls, first = set(), Counter(), {}

def look(frame, event, _):
    code = frame.f_code
    if event != "call" or not code.co_filename.startswith(home):
        return
    if code.co_name.startswith("<") or not code.co_flags & CO_OPTIMIZED:
        return
    if not first:
        entered.add((code.co_filename, code.co_firstlineno))
    if code.co_name in COUNTED:
        calls[COUNTED[code.co_name]] += 1

real = torch.Tensor.backward
def backward(self, *given, **more):
    if not first:
        first["functions"] = len(entered)
        first["walked"] = len({name for name, _ in entered})
        first["modules"] = sum(one.split(".")[0] == "medmcl" for one in sys.modules)
        if not int(whole):
            print(json.dumps(first), flush=True)
            os._exit(0)
    return real(self, *given, **more)
torch.Tensor.backward = backward

work = Path(tempfile.mkdtemp())
form = {"form": "shards"} if kind == "heart" else {}
medmcl.simulate(kind, work / "cohort", {"subjects": 60, **form})
few = {f"stages.{name}.steps": 1 for name in ("mdm", "mmcl", "finetune") if int(whole)}
sys.setprofile(look)
medmcl.pretrain(work / "cohort", recipe=recipe, out=work / "run", device="cpu", overrides=few)
sys.setprofile(None)
first["stages"] = len(list((work / "run" / "checkpoint").iterdir()))
print(json.dumps({**first, **calls}))
"""


def code_lines(path: Path) -> int:
    """Lines of a file without blanks, comments and docstrings."""
    text = path.read_text(encoding="utf-8")
    docs: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        for one in (
            getattr(node, "body", []) if isinstance(getattr(node, "body", None), list) else []
        ):
            if (
                isinstance(one, ast.Expr)
                and isinstance(one.value, ast.Constant)
                and isinstance(one.value.value, str)
            ):
                docs.update(range(one.lineno, (one.end_lineno or one.lineno) + 1))
    idle = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    used: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in idle:
            used.update(range(token.start[0], token.end[0] + 1))
    return len(used - docs)


def static(root: Path) -> dict[str, int]:
    """What can be counted without running anything."""
    found: Counter[str] = Counter()
    fullest: Counter[Path] = Counter()
    for path in (root / "medmcl").rglob("*.py"):
        parts = path.relative_to(root / "medmcl").parts
        lines, room = code_lines(path), parts[0] if len(parts) > 1 else "medmcl"
        found[f"code lines, {room}"] += lines
        found[f"files, {room}"] += 1
        found["code lines"] += lines
        found["files"] += 1
        fullest[path.parent] += 1
    found["files in the fullest folder"] = max(fullest.values())
    found["code lines of tests"] = sum(code_lines(path) for path in (root / "tests").rglob("*.py"))
    call = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--select",
        "C901",
        "--output-format",
        "json",
        "medmcl",
    ]
    told = subprocess.run(call, cwd=root, capture_output=True, text=True, check=False).stdout
    found["functions too complex"] = len(json.loads(told))
    return dict(found)


def walked(root: Path, recipe: str, kind: str, whole: bool) -> dict[str, int]:
    """What a run enters: the whole of it, or until its first backward pass."""
    script = WALK.replace("COUNTED", repr(COUNTED))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "walk.py"
        file.write_text(script, encoding="utf-8")
        env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, str(file), recipe, kind, str(int(whole))],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    told: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return {SAID[key].format(recipe): count for key, count in told.items()}


SAID = {
    "functions": "functions entered before the first backward pass, {}",
    "walked": "files that they stand in, {}",
    "modules": "modules of medmcl imported by then, {}",
    "expand": "times a recipe is expanded in a run, {}",
    "build_learner": "learners built in a run, {}",
    "stages": "stages of the run that train one, {}",
}


def measured(root: Path) -> dict[str, int]:
    """Everything that is counted of one checkout."""
    return {
        **static(root),
        **walked(root, "clip_toy", "shapes", whole=False),
        **walked(root, "ecg_cmr_toy", "heart", whole=True),
    }


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--before", type=Path, required=True, help="another checkout")


def parts(rows: dict[str, Any]) -> dict[str, str]:
    columns = {"": "what", **dict(zip(rows["commits"], ("before", "after"), strict=True))}
    return {"counts": table(columns, rows["counts"])}


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Measure both."""
    roots = [given.before.resolve(), ROOT]
    before, after = (measured(root) for root in roots)
    keys = sorted({**before, **after})
    keys.sort(key=lambda key: key.startswith(("code lines, ", "files, ")))
    counts = [
        {"what": key, "before": before.get(key, 0), "after": after.get(key, 0)} for key in keys
    ]
    return {"commits": [commit(root) for root in roots], "counts": counts}


STUDY = Study(__file__, parts=parts, run=run, options=options, before="2bdbc53")

if __name__ == "__main__":
    STUDY.main()
