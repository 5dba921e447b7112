"""Files that are damaged at random: each is read into what was promised, or refused in words.

    python -m benchmarks.faults.mutants [--mutants 10000] [--seed 0] [--format NAME ...]

Of every format that is read, one small sound example is damaged: bytes flipped, cut, inserted,
repeated, moved, zeroed; fields of headers set to extremes; numbers of texts exchanged for others.
Each mutant is read as `medmcl check` and `pretrain` read it, in a fork with a bound on its memory.
A mutant of sample data may read as other samples, where a format has no checksum.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import re
import resource
import select
import shlex
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.form import Format, RefusedError
from benchmarks.faults.formats import formats
from benchmarks.study import Row, Study, percent, shown, table

LIMIT = 20
"""Seconds after which a reader hangs."""
MEMORY = 3 * 2**30
"""Bytes that reading may add."""
CODES = {
    "same": "read, as it was", "other": "read, otherwise", "refused": "refused",
    "wrong": "wrong", "not finite": "not finite", "traceback": "tracebacks", "hang": "hangs",
    "died": "died",
}  # fmt: skip
BAD = ("wrong", "not finite", "traceback", "hang", "died")
EXTREMES = (b"\0", b"\xff", b"\x7f", b"\x80", b"\x01")
NUMBERS = (
    b"0",
    b"-1",
    b"1e999",
    b"nan",
    b"1000000000000",
    b"-0.5",
    b"99999999999999999999999",
    b"",
)
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")


def mutated(content: bytes, draw: random.Random) -> bytes:
    """Give a content that differs."""
    while True:
        found = draw.choice(KINDS)(content, draw)
        if found != content:
            return found


def _flipped(content: bytes, draw: random.Random) -> bytes:
    held = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8))):
        held[draw.randrange(len(held))] ^= 1 << draw.randrange(8)
    return bytes(held)


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def _inserted(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content) + 1)
    return content[:at] + draw.randbytes(draw.choice((1, 4, 64))) + content[at:]


def _block(content: bytes, draw: random.Random) -> tuple[int, int]:
    start = draw.randrange(len(content))
    return start, min(len(content), start + draw.choice((1, 16, 256)))


def _repeated(content: bytes, draw: random.Random) -> bytes:
    start, end = _block(content, draw)
    return content[:end] + content[start:end] * draw.choice((1, 2, 50)) + content[end:]


def _removed(content: bytes, draw: random.Random) -> bytes:
    start, end = _block(content, draw)
    return content[:start] + content[end:]


def _zeroed(content: bytes, draw: random.Random) -> bytes:
    start, end = _block(content, draw)
    return content[:start] + bytes(end - start) + content[end:]


def _header(content: bytes, draw: random.Random) -> bytes:
    """Set a field among the first bytes, or the last, to an extreme."""
    width = draw.choice((1, 2, 4, 8))
    at = draw.randrange(min(512, len(content)))
    at = at if draw.random() < 0.7 else len(content) - 1 - at
    return content[:at] + draw.choice(EXTREMES) * width + content[at + width :]


def _number(content: bytes, draw: random.Random) -> bytes:
    """Exchange a number of a text for another."""
    places = [*NUMBER.finditer(content[:20_000])]
    if not places:
        return _flipped(content, draw)
    one = draw.choice(places)
    return content[: one.start()] + draw.choice(NUMBERS) + content[one.end() :]


KINDS = (
    _flipped,
    _flipped,
    _cut,
    _inserted,
    _repeated,
    _removed,
    _zeroed,
    _header,
    _header,
    _number,
)


def what_became(form: Format, folder: Path, sound: Any) -> tuple[str, str]:
    """Read the mutant of a folder: a key of `CODES`, and what a fault says."""
    from medmcl.core.errors import MedmclError

    try:
        found = form.read(folder)
    except (MedmclError, RefusedError):
        return "refused", ""
    except _Hangs:
        return "hang", ""
    except BaseException as error:  # whatever it is, it would be a traceback
        return "traceback", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if isinstance(found, np.ndarray):
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            return "not finite", ""
        same = found.shape == sound.shape and np.array_equal(found, sound)
    else:
        same = found == sound
    if same:
        return "same", ""
    told = form.sealed(folder) if callable(form.sealed) else form.sealed
    return "wrong" if told else "other", ""


class _Hangs(BaseException):
    """Reading took too long."""


def _stop(*_: object) -> None:
    raise _Hangs


def _child(
    form: Format, home: Path, sound: Any, seed: str, numbers: range, told: Callable[[str], object]
) -> None:
    """Read mutants one after another, and tell of each."""
    signal.signal(signal.SIGALRM, _stop)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    contents = {name: (home / name).read_bytes() for name in form.damaged}
    for number in numbers:
        draw = random.Random(f"{seed} {number}")
        folder = home.with_name(f"{home.name}-{number}")
        chosen = draw.choice(form.damaged)
        shutil.copytree(home, folder, copy_function=os.link)
        (folder / chosen).unlink()
        (folder / chosen).write_bytes(mutated(contents[chosen], draw))
        code, said = "hang", ""
        for _ in range(2):  # who stood still for want of a processor does not again
            if code == "hang":
                signal.alarm(LIMIT)
                code, said = what_became(form, folder, sound)
                signal.alarm(0)
        shutil.rmtree(folder)
        told(f"{code}\t{said}\n")


def _forked(work: Callable[[Callable[[str], object]], None]) -> Iterator[tuple[str, str]]:
    """Give what a fork tells, until it ends or is silent for too long."""
    reads, writes = os.pipe()
    process = os.fork()
    if not process:
        os.close(reads)
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 2)
        try:
            work(lambda line: os.write(writes, line.encode()))
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb", buffering=0) as told:
        held = b""
        while select.select([told], [], [], 2 * LIMIT + 10)[0]:
            part = told.read(65_536)
            if not part:
                break
            *lines, held = (held + part).split(b"\n")
            for line in lines:
                code, _, said = line.decode(errors="replace").partition("\t")
                yield code, said
        else:
            os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def tried(name: str, form: Format, seed: int, count: int) -> Row:
    """Read mutants of one format."""
    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    began, cpu = time.monotonic(), _cpu()
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="mutants-", dir=place) as work:
        home = Path(work) / "sound"
        home.mkdir()
        form.write(home)
        try:
            sound = form.read(home)
        except RefusedError:
            raise RuntimeError(f"{name}: what is sound is refused: {form.read}") from None
        done, word = 0, f"{name} {seed}"
        while done < count:
            left = range(done, count)
            before = done
            for code, said in _forked(
                lambda told, left=left: _child(form, home, sound, word, left, told)
            ):
                outcomes[code] += 1
                if code in BAD:
                    faults.append(f"{done}: {code} {said}".strip())
                done += 1
            if done < count:  # the one that it was reading killed it
                shutil.rmtree(home.with_name(f"sound-{done}"), ignore_errors=True)
                outcomes["died"] += 1
                faults.append(f"{done}: died")
                done += 1
            if done == before:
                raise RuntimeError(f"{name}: nothing is read")
    seconds = {"seconds": round(time.monotonic() - began, 1), "cpu": round(_cpu() - cpu, 1)}
    counted = {code: outcomes[code] for code in CODES}
    return {
        "format": name,
        "mutants": count,
        "seed": seed,
        **counted,
        **seconds,
        "faults": faults[:20],
    }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    warnings.simplefilter("ignore")
    known = formats()
    unknown = {*(given.format or ())} - {*known}
    if unknown:
        sys.exit(f"no such format: {', '.join(unknown)}; there are {', '.join(known)}")
    wanted = [*(given.format or known)]
    kept = [row for row in STUDY.kept(given.out) or [] if row["format"] not in wanted]
    for name in wanted:
        kept.append(tried(name, known[name], given.seed, given.mutants))
        row = kept[-1]
        print(
            name,
            {key: row[key] for key in (*CODES, "cpu")},
            *row["faults"][:5],
            sep="\n  ",
            flush=True,
        )
        order = {one: place for place, one in enumerate(known)}
        yield sorted(kept, key=lambda row: order.get(row["format"], len(order)))


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", action="append", help="only these; repeatable")


def parts(rows: list[Row]) -> dict[str, str]:
    columns: dict[str, Any] = {"format": "format"}
    columns["options"] = lambda row: (
        f"`--seed {row['seed']} --mutants {row['mutants']} --format {shlex.quote(row['format'])}`"
    )
    columns |= {head: code for code, head in CODES.items()}
    columns["mutants a CPU second"] = lambda row: shown(
        math.floor(row["mutants"] / max(row["cpu"], 0.1))
    )
    total = {code: sum(row[code] for row in rows) for code in (*CODES, "mutants")}
    total["share"] = total["refused"] / total["mutants"]
    return {
        "mutants": table(columns, rows),
        "mutants in all": f"{total['mutants']:,}",
        "formats": str(len(rows)),
        "refused": percent("share")(total),
        "bad": str(sum(total[code] for code in BAD)),
    }


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
