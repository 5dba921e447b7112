"""A study: a name, a command, rows that are kept, and the parts of a page that are written from them.

    python -m benchmarks.study [--check] [NAME ...]

writes the pages of all studies, or of some, from the rows that are kept, and runs nothing;
``--check`` tells which would change.

    python -m benchmarks.study --run THEME [--data FOLDER]

runs all studies of a folder, one after the other, as their pages say; those that need an option that is
not given are named, and left out; what a study compares with is checked out for it. Prose stands in the page. What comes from rows stands between
two marks, ``<!-- name -->`` and ``<!-- / -->``, on lines of their own or within a line. Several
studies may write into one page.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.atomic import write_atomically

ROOT = Path(__file__).resolve().parents[1]
MARK = re.compile(r"<!-- (?!/)([^>\n]+) -->(.*?)<!-- / -->", re.DOTALL)
LIBRARIES = {"numpy": "numpy", "scipy": "scipy", "sklearn": "scikit-learn", "torch": "torch"}
Row = dict[str, Any]
Cell = Callable[[Any], str]
"""What a row shows in a column."""


@dataclass(frozen=True)
class Study:
    """What is measured, and what is shown of it.

    Attributes:
        file: The script, its ``__file__``; rows are kept beside it, in a JSON file of its name.
        parts: Rows to the texts of the page, by the names of their marks.
        run: Options to rows (JSON); or to an iterator of all rows so far, kept each time.
        options: Adds options of its own.
        draw: Rows to the figure of the page, an SVG file.
        page: Name of the page, if it is not that of the script.
        seeds: How many seeds there are unless ``--seeds`` says so; None: no such option.
        quick: Whether there is a quick form, ``--quick``.
        runs: Options of each run that its rows take together; one without options if not said.
        before: The commit whose checkout it compares this one with (``--before``); empty: none.
    """

    file: str
    parts: Callable[[Any], Mapping[str, str]]
    run: Callable[[argparse.Namespace], Any]
    options: Callable[[argparse.ArgumentParser], object] = id
    draw: Callable[[Any, Path], None] | None = None
    page: str = ""
    seeds: int | None = None
    quick: bool = False
    runs: Sequence[str] = ("",)
    before: str = ""

    @property
    def path(self) -> Path:
        """The script."""
        return Path(self.file).resolve()

    @property
    def name(self) -> str:
        """Of the script, without ending."""
        return self.path.stem

    @property
    def command(self) -> str:
        """The command that runs it, without options."""
        return f"python -m benchmarks.{self.path.parent.name}.{self.name}"

    @property
    def head(self) -> str:
        """What the script says of itself."""
        return ast.get_docstring(ast.parse(self.path.read_text("utf-8"))) or ""

    def parser(self) -> argparse.ArgumentParser:
        """Options of every study, and its own."""
        about = self.head.partition("\n")[0]
        parser = argparse.ArgumentParser(prog=self.command, description=about)
        self.options(parser)
        where = "folder of rows, page and figure"
        parser.add_argument("--out", type=Path, default=self.path.parent, help=where)
        parser.add_argument("--page", action="store_true", help="from the rows that are kept")
        if self.seeds is not None:
            parser.add_argument("--seeds", type=int, default=self.seeds)
        if self.quick:
            parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
        return parser

    def main(self) -> None:
        """Run, keep rows and write the page; or write it from the rows that are kept."""
        if "--page" not in sys.argv:
            given = self.parser().parse_args()
            if getattr(given, "quick", False) and given.out == self.path.parent:
                given.out = Path(tempfile.mkdtemp())  # what is kept is of whole runs
                print(f"rows and page: {given.out}")
            found = self.run(given)
            for rows in found if isinstance(found, Iterator) else [found]:
                self.keep(rows, given.out)
        else:
            known = argparse.ArgumentParser()
            known.add_argument("--out", type=Path, default=self.path.parent)
            given = known.parse_known_args()[0]
        if self.kept(given.out) is not None:
            self.write(given.out)

    def kept(self, out: Path | None = None) -> Any:
        """Rows that are kept, None if there are none."""
        file = (out or self.path.parent) / f"{self.name}.json"
        return json.loads(file.read_text("utf-8"))["rows"] if file.exists() else None

    def keep(self, rows: Any, out: Path) -> None:
        """Keep rows, and how they were made, a row a line."""
        if rows is None:
            return
        rows = stamped(rows, self.kept(out), commit())
        out.mkdir(parents=True, exist_ok=True)
        used = {name: version(name) for key, name in LIBRARIES.items() if key in sys.modules}
        made = {
            "command": shlex.join([*self.command.split(), *without_folders(sys.argv[1:])]),
            "commit": commit(),
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{processor()}, {os.cpu_count()} cores",
            "threads": os.environ.get("OMP_NUM_THREADS", "not set"),
            "versions": {"python": platform.python_version(), **used},
        }
        text = lines({"made": made, "rows": rows})
        write_atomically(out / f"{self.name}.json", text + "\n")

    def texts(self, out: Path | None = None) -> dict[str, str]:
        """The parts of the page, from the rows that are kept."""
        file = (out or self.path.parent) / f"{self.name}.json"
        given = json.loads(file.read_text("utf-8"))
        line = told(file.name, given["made"], given["rows"])
        return {f"rows of {self.name}": line, **self.parts(given["rows"])}

    def write(self, out: Path) -> None:
        """Write its parts of the page, and its figure."""
        file = out / f"{self.page or self.name}.md"
        texts = self.texts(out)
        own = self.path.parent / file.name  # prose comes along to another folder
        page = next((one.read_text("utf-8") for one in (file, own) if one.exists()), None)
        if page is None:
            marks = "\n\n".join(f"<!-- {name} -->\n<!-- / -->" for name in texts)
            page = f"# {file.stem}\n\n{marks}\n"
        write_atomically(file, fill(page, texts, file.name))
        if self.draw:
            self.draw(self.kept(out), out / f"{self.page or self.name}.svg")


def fill(page: str, texts: Mapping[str, str], name: str = "the page") -> str:
    """Put texts between their marks; those of other studies stay as they are.

    Raises:
        ValueError: A text has no mark in the page.
    """
    absent = set(texts) - {mark.group(1) for mark in MARK.finditer(page)}
    if absent:
        mark = f"<!-- {min(absent)} --> <!-- / -->"
        raise ValueError(f"{name} has no place for {sorted(absent)}; put {mark} where it should be")

    def put(mark: re.Match[str]) -> str:
        key, old = mark.groups()
        text = texts.get(key)
        if text is None:
            return mark.group()
        text = f"\n{text.strip()}\n" if old.startswith("\n") else text
        return f"<!-- {key} -->{text}<!-- / -->"

    return MARK.sub(put, page)


def lines(value: Any, depth: int = 0) -> str:
    """JSON with a row a line."""
    if not (_holds_rows(value) or (depth < 2 and isinstance(value, dict) and value)):
        return json.dumps(value, default=_plain)
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {lines(one, depth + 1)}" for key, one in value.items()]
        return "{\n" + ",\n".join(parts) + "\n}"
    return "[\n" + ",\n".join(lines(one, 2) for one in value) + "\n]"


def processor() -> str:
    """What the processor is, and calls itself where the system tells."""
    told = Path("/proc/cpuinfo")
    text = told.read_text("utf-8", "replace") if told.exists() else ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return ", ".join([platform.machine(), *([named[1].strip()] if named else [])])


def _plain(number: Any) -> float:
    return number.item()  # of numpy


def _holds_rows(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_rows, value.values()))
    return isinstance(value, list) and any(isinstance(one, dict) for one in value)


def commit(root: Path = ROOT) -> str:
    """The commit of a checkout, with a + where files differ from it."""
    call = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(call, cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def commits(rows: Sequence[Any]) -> list[str]:
    """Give the commits at which rows were made, as far as they say so."""
    return [
        *dict.fromkeys(row["commit"] for row in rows if isinstance(row, dict) and "commit" in row)
    ]


def made_at(rows: Sequence[Row]) -> str:
    """Say of which commits the rows of a table are."""
    return f"At commit {', '.join(commits(rows))}."


def without_folders(words: Sequence[str]) -> list[str]:
    """Options of a study without folders of one machine: where rows went, where a checkout lay."""
    text = "\0".join(words)
    text = re.sub("(^|\0)--out(=|\0)[^\0]*", "", text).removeprefix("\0")
    text = re.sub("(^|\0)--before(=|\0)[^\0]*", r"\1--before\0CHECKOUT", text)
    return text.split("\0") if text else []


def stamped(rows: Any, before: Any, at: str) -> Any:
    """Rows, each with the commit that it was made at; those that were there before as they are."""
    if isinstance(rows, dict):
        known = before if isinstance(before, dict) else {}
        return {key: stamped(one, known.get(key), at) for key, one in rows.items()}
    if not isinstance(rows, list):
        return rows
    known = before if isinstance(before, list) else []
    return [
        {**one, "commit": at}
        if isinstance(one, dict) and "commit" not in one and one not in known
        else one
        for one in rows
    ]


def told(file: str, made: Mapping[str, Any], rows: Any = ()) -> str:
    """A line on where rows come from."""
    if "note" in made:
        return f"Rows: [`{file}`]({file}), {made['note']}."
    tables = rows if isinstance(rows, dict) else {"": rows}
    found = {key: commits(own) for key, own in tables.items() if isinstance(own, list)}
    apart = ""
    if {one for own in found.values() for one in own} - {made["commit"]}:
        each = "; ".join(f"{key} {', '.join(own)}".strip() for key, own in found.items() if own)
        apart = f" Rows by commit: {each}."
    versions = ", ".join(f"{name} {one}" for name, one in made["versions"].items())
    return (f"Rows: [`{file}`]({file}), made by `{made['command']}` at commit {made['commit']} on "
            f"{made['date']} ({made['machine']}, threads: {made['threads']}; {versions}).{apart}")  # fmt: skip


def table(columns: Mapping[str, str | Cell], rows: Sequence[Any]) -> str:
    """A table in Markdown: head to what a row shows there; a string is a key of the row."""
    shows = [text(one) if isinstance(one, str) else one for one in columns.values()]
    return grid(list(columns), [[show(row) for show in shows] for row in rows])


def grid(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table in Markdown from its cells."""
    body = "".join(f"\n| {' | '.join(row)} |" for row in cells)
    return f"| {' | '.join(head)} |\n|{'---|' * len(head)}{body}"


def text(key: str) -> Cell:
    """A value as it is, whole numbers with commas; nothing where there is none."""
    return lambda row: shown(row.get(key))


def shown(value: Any, form: str = "") -> str:
    """A number in a form, or a word; nothing for None."""
    if value is None or isinstance(value, str):
        return value or ""
    return format(value, form or ("," if isinstance(value, int) else ""))


def number(key: str, form: str = ",") -> Cell:
    """A number in a form, as of `format`."""
    return lambda row: shown(row.get(key), form)


def percent(key: str, digits: int = 0, sign: str = "") -> Cell:
    """A share in percent."""

    def show(row: Row) -> str:
        value = row.get(key)
        return "" if value is None else f"{100 * value:{sign},.{digits}f} %"

    return show


def interval(key: str = "value", digits: int = 3, scale: float = 1, sign: str = "") -> Cell:
    """A value with its interval, ``low`` and ``high`` of the row."""

    def show(row: Row) -> str:
        a, b, c = (f"{scale * row[k]:{sign}.{digits}f}" for k in (key, "low", "high"))
        return f"{a} ({b} to {c})"

    return show


@lru_cache(maxsize=16)
def drawn(sizes: tuple[int, ...], draws: int) -> list[np.ndarray]:
    """Whom each bootstrap sample of each group has, (draws, size) a group; always the same."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, size, size=(draws, size)) for size in sizes]


def studies() -> list[Study]:
    """Every study of this folder."""
    found = []
    for file in sorted(Path(__file__).parent.glob("*/*.py")):
        if re.search("^STUDY = ", file.read_text("utf-8"), re.MULTILINE):
            module = importlib.import_module(f"benchmarks.{file.parent.name}.{file.stem}")
            found.append(module.STUDY)
    return found


def pages(chosen: Sequence[Study]) -> dict[Path, str]:
    """Each page of some studies, as they write it from the rows that are kept."""
    found: dict[Path, str] = {}
    for study in chosen:
        file = study.path.parent / f"{study.page or study.name}.md"
        found[file] = fill(found.get(file) or file.read_text("utf-8"), study.texts(), file.name)
    return found


def calls(study: Study, options: Mapping[str, str], folder: Path) -> tuple[list[list[str]], str]:
    """Give the commands that make all rows of a study; or the option that they lack.

    Args:
        study: Which.
        options: Those that are given, by name; a study takes those that it knows.
        folder: For what it works on, if it asks for a place.
    """
    known, words = [], study.command.split()[1:]
    for one in study.parser()._actions:
        name = one.option_strings[-1] if one.option_strings else one.dest
        if name in options:
            known += [name, options[name]]
        elif name == "work" and one.required:
            known.append(str(folder / study.name))
        elif one.required and one.nargs not in ("*", "?"):
            return [], name
    return [[sys.executable, *words, *shlex.split(run), *known] for run in study.runs], ""


def run_theme(theme: str, options: Mapping[str, str]) -> int:
    """Run the studies of a folder in turn; give how many commands failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for study in studies():
            if study.path.parent.name != theme:
                continue
            older = {"--before": checkout(study.before, Path(folder))} if study.before else {}
            found, lacks = calls(study, {**options, **older}, Path(folder))
            if lacks:
                print(f"left out: {study.command} needs {lacks}", flush=True)
            for call in found:
                print(shlex.join(call[1:]), flush=True)
                failed += subprocess.run(call, cwd=ROOT, check=False).returncode != 0
    return failed


def checkout(of: str, folder: Path) -> str:
    """Give a checkout of a commit of this repository below a folder, made if it is not there."""
    place = folder / of
    if not place.exists():
        subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, place], check=True)
        subprocess.run(["git", "checkout", "--quiet", of], cwd=place, check=True)
    return str(place)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write pages from the rows that are kept.")
    parser.add_argument("name", nargs="*", help="of a script; default: all")
    parser.add_argument("--check", action="store_true", help="tell what would change")
    parser.add_argument("--run", metavar="THEME", help="run all studies of a folder")
    parser.add_argument("--data", help="with --run: folder of public data sets")
    given = parser.parse_args()
    if given.run:
        sys.exit(run_theme(given.run, {"--data": given.data} if given.data else {}))
    chosen = [one for one in studies() if one.name in given.name or not given.name]
    written = pages(chosen)
    changed = [file for file, page in written.items() if page != file.read_text("utf-8")]
    for file in changed:
        print(file.relative_to(ROOT))
        if not given.check:
            write_atomically(file, written[file])
    sys.exit(bool(changed) and given.check)


if __name__ == "__main__":
    main()
