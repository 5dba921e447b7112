"""Runs of the command line in processes of their own, and whether two runs learned the same.

They are forks of the process of the tests, so that what takes seconds to import is imported once.
"""

import json
import os
import runpy
import signal
import socket
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

import medmcl


def processor_seconds():
    """What this process and those that it waited for have taken."""
    return sum(os.times()[:4])


@contextmanager
def at_most(seconds):
    """Fail where more processor seconds were taken, by this process and its forks."""
    began = processor_seconds()
    yield
    taken = processor_seconds() - began
    assert taken < seconds, f"took {taken:.0f} processor seconds, of {seconds} at most"


class Command:
    """``medmcl`` with some words in a fork; what it says, as `subprocess.Popen` tells it.

    Args:
        words: What is typed after ``medmcl``.
        environment: Variables of its environment; None: those of this process.
        ranks: Processes that run it, and know of each other as those of torchrun do.
        fresh: Whether it imports medmcl anew, for packages that only its environment has.
    """

    def __init__(self, words, environment=None, ranks=1, fresh=False):
        self.returncode = None
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - until it is read
        reads, writes = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(reads)
            os.dup2(writes, 1)
            os.dup2(self.errors.fileno(), 2)
            _leave(lambda: _typed(words, environment, ranks, fresh))
        os.close(writes)
        self.stdout = os.fdopen(reads, encoding="utf-8")

    def poll(self):
        return self._waited(os.WNOHANG)

    def send_signal(self, which):
        if self.poll() is None:
            os.kill(self.pid, which)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def communicate(self):
        """Wait for its end; give what it said, output and errors."""
        with self.stdout, self.errors:
            out = self.stdout.read()
            self._waited(0)
            self.errors.seek(0)
            return out, self.errors.read()

    def _waited(self, how):
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, how)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode


def _leave(run):
    """End this fork as Python ends."""
    code = 1
    try:
        # a fork of a fork has these files, too: they are not closed where one lets go of them
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        code = run()
    except SystemExit as left:
        code = left.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)  # whatever happens: else it would go on with the tests


def _typed(words, environment, ranks, fresh):
    warnings.resetwarnings()  # those that the tests make errors
    warnings.simplefilter("ignore")
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:0] = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if fresh:
        for name in [one for one in sys.modules if one.split(".")[0] == "medmcl"]:
            del sys.modules[name]
    torch.set_num_threads(1)
    sys.argv = ["medmcl", *map(str, words)]
    from medmcl.cli.main import main

    if ranks == 1:
        return main()
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    known = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    started = []
    for rank in map(str, range(ranks)):
        started.append(os.fork())
        if not started[-1]:
            os.environ |= {**known, "RANK": rank, "LOCAL_RANK": rank}
            _leave(main)
    ended = [os.waitpid(one, 0)[1] for one in started]
    return int(any(ended))


def run_in_two(words):
    """Run ``medmcl`` with these words in two processes that share each batch."""
    finish(Command([*words, "--device", "cpu", "--devices", "2", "--workers", "0"], ranks=2))


def pretrain_in_two(cohort, recipe, out, overrides):
    """Train in two processes with the overrides of `medmcl.pretrain`; give the run."""
    words = ["pretrain", "--cohort", str(cohort), "--recipe", str(recipe), "--out", str(out)]
    for key, value in overrides.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    run_in_two(words)
    return medmcl.load(out)


def finish(process):
    """Wait for a process that must end well; give what it said."""
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return out, errors


def ranks_of(worker, folder, timeout):
    """What two forks that run a script found: each writes ``rank-N.json`` to a folder.

    A rank that waits for ever is ended, and so is the other; a warning is an error.
    """

    def found(rank):
        os.environ |= {"WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank}
        torch.set_num_threads(1)
        warnings.resetwarnings()
        warnings.simplefilter("error")
        sys.argv = [str(worker), str(folder)]
        sys.path.insert(0, str(worker.parent))
        runpy.run_path(str(worker), run_name="__main__")
        return 0

    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        ranks = []
        for rank in "01":
            ranks.append(os.fork())
            if not ranks[-1]:
                os.dup2(errors.fileno(), 2)
                signal.alarm(timeout)
                _leave(lambda rank=rank: found(rank))
        codes = [os.waitpid(one, 0)[1] for one in ranks]
        errors.seek(0)
        said = errors.read()
    assert codes == [0, 0], said
    assert "Warning" not in said
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]


def forked_ranks(size, folder, find):
    """What each of some forks finds that know one another as ranks: ``find(world)``, as JSON."""
    from medmcl.engine.world import start_world, stop_world

    def found(rank):
        os.environ |= {"WORLD_SIZE": str(size), "RANK": str(rank), "LOCAL_RANK": str(rank)}
        torch.set_num_threads(1)
        world = start_world("cpu", init_method=f"file://{folder}/rendezvous")
        (folder / f"rank-{rank}.json").write_text(json.dumps(find(world)))
        stop_world(world)
        return 0

    started = []
    for rank in range(size):
        started.append(os.fork())
        if not started[-1]:
            _leave(lambda rank=rank: found(rank))
    assert [os.waitpid(one, 0)[1] for one in started] == [0] * size
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(size)]


def weights(run, stage, pointer="last"):
    return medmcl.load(run).checkpoints(stage).weights(pointer)


def assert_same_weights(a, b, stages, pointer="last"):
    for stage in stages:
        first, second = weights(a, stage, pointer), weights(b, stage, pointer)
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert torch.equal(value, second[name]), f"{stage}: {name}"


def none_left(pids, seconds=20):
    """Whether processes have ended, within some seconds."""
    deadline = time.monotonic() + seconds
    while any(map(_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(map(_alive, pids))


def _alive(pid):
    try:
        with Path(f"/proc/{pid}/stat").open(encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
