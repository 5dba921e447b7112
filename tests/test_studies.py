"""Pages of benchmarks/ are what their studies write from the rows that are kept."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.study import MARK, fill, grid, lines, stamped, without_folders
from benchmarks.study import told as told_by

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
PROSE = {"README.md", "new_user_trials.md"}
"""Pages without rows."""
NO_PAGE = {"ecg_chest_leads.py", "ecg_electrodes.py", "ecg_rates.py"}
"""Scripts that fit weights which ship, and write those."""

LOOK = """
import json, sys
from pathlib import Path
from benchmarks.study import calls, fill, studies
found, marks, written = studies(), {}, {}
for study in found:
    page, texts = study.path.parent / f"{study.page or study.name}.md", study.texts()
    marks.setdefault(str(page), []).extend(texts)
    written[page] = fill(written.get(page) or page.read_text("utf-8"), texts, page.name)
print(json.dumps({
    "same": {str(page): text == page.read_text("utf-8") for page, text in written.items()},
    "marks": marks,
    "rows": [str(study.path.with_suffix(".json")) for study in found],
    "usage": {study.command: study.parser().format_usage() for study in found},
    "head": {study.command: study.head for study in found},
    "lacks": {study.command: calls(study, {}, Path("work"))[1] for study in found},
    "before": {study.command: study.before for study in found},
    "parsed": [
        vars(study.parser().parse_args(words[3:])) and words[2]
        for study in found
        for words in calls(study, {"--data": "DATA", "--before": "OLD"}, Path("work"))[0]
    ],
    "torch": "torch" in sys.modules,
}))
"""


@pytest.fixture(scope="module")
def told():
    call = [sys.executable, "-c", LOOK]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def ours(ending):
    """Files of the folders."""
    return {str(file) for file in BENCHMARKS.rglob(f"*.{ending}") if file.name not in PROSE}


def test_every_page_is_what_its_studies_write_from_the_rows_that_are_kept(told):
    assert [page for page, same in told["same"].items() if not same] == []
    assert set(told["same"]) == ours("md")
    assert set(told["rows"]) == ours("json"), "rows of no study, or a study without rows"


def test_every_mark_of_a_page_is_of_a_study_and_of_one_only(told):
    for page, names in told["marks"].items():
        marks = [mark.group(1) for mark in MARK.finditer(Path(page).read_text("utf-8"))]
        assert sorted(set(marks)) == sorted(names), page


def test_the_head_of_a_study_names_its_command(told):
    for command, usage in told["usage"].items():
        assert command in told["head"][command]
        assert command in " ".join(usage.split())
        assert "--page" in usage


def test_every_script_is_a_study_but_those_that_write_weights():
    scripts = {file: file.read_text("utf-8") for file in BENCHMARKS.glob("*/*.py")}
    run = {file.name for file, text in scripts.items() if "__main__" in text}
    studies = {file.name for file, text in scripts.items() if "\nSTUDY = " in text}
    assert run - studies == NO_PAGE
    assert studies <= run


def test_a_theme_is_run_by_one_command_and_what_is_left_out_lacks_an_option(told):
    engine = [one for one in told["lacks"] if ".engine." in one]
    assert len(engine) > 10
    assert {told["lacks"][one] for one in engine} == {"", "--data", "--before"}
    compares = {one for one, usage in told["usage"].items() if "--before" in usage}
    assert compares == {one for one, commit in told["before"].items() if commit}
    run = [f"python -m {name}" for name in told["parsed"]]
    assert set(engine) <= set(run)
    assert run.count("python -m benchmarks.engine.curves") == 3


def test_a_row_is_of_the_commit_at_which_it_was_made_and_stays_so():
    old = {"a": [{"x": 1}, {"x": 2, "commit": "first"}], "note": "words"}
    new = {"a": [*old["a"], {"x": 3}], "note": "words"}
    kept = stamped(new, old, "third")
    assert kept == {"a": [*old["a"], {"x": 3, "commit": "third"}], "note": "words"}
    assert stamped(kept, kept, "fourth") == kept
    made = {"commit": "third", "command": "run", "date": "", "machine": "", "threads": "1",
            "versions": {}}  # fmt: skip
    assert told_by("a.json", made, kept).endswith("Rows by commit: a first, third.")
    assert told_by("a.json", made, kept["a"][2:]).endswith(").")


def test_pages_need_no_torch(told):
    assert not told["torch"]


def test_marks_within_a_line_and_on_lines_of_their_own():
    page = "It is <!-- a --> <!-- / -->.\n<!-- b -->\nold\n<!-- / -->\n<!-- other -->1<!-- / -->"
    once = fill(page, {"a": "5", "b": grid(["x"], [["1"]])})
    assert once == (
        "It is <!-- a -->5<!-- / -->.\n<!-- b -->\n| x |\n|---|\n| 1 |\n<!-- / -->\n"
        "<!-- other -->1<!-- / -->"
    )
    assert fill(once, {"a": "5"}) == once
    with pytest.raises(ValueError, match=r"has no place for \['c'\]"):
        fill(page, {"c": "6"})


def test_rows_are_kept_a_row_a_line():
    rows = {"made": {"by": "me"}, "rows": {"a": [{"x": [1, 2]}, {"x": []}], "b": []}}
    assert json.loads(lines(rows)) == rows
    assert '{"x": [1, 2]},\n{"x": []}' in lines(rows)


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["--out", "/tmp/x"], []),
        (["--seeds", "6", "--out=/tmp/x", "--family", "a b"], ["--seeds", "6", "--family", "a b"]),
        (["--before", "/home/me/old", "--out", "y"], ["--before", "CHECKOUT"]),
        (["--quick"], ["--quick"]),
    ],
)
def test_the_command_that_is_kept_names_no_folder_of_one_machine(words, kept):
    assert without_folders(words) == kept


def test_no_page_names_a_folder_of_one_machine():
    for page in BENCHMARKS.rglob("*.md"):
        told = re.findall(r"made by `([^`]*)`", page.read_text("utf-8"))
        assert not [one for one in told if re.search(r"(^|[ =])['\"]?(/|~)", one)], page
