"""Ranks that end together: signs of life, last words, and waits that end.

Every rank has a thread that tells the others, through the store by which ranks find one another,
that it lives and where it stands, and that looks whether they do. Whoever fails says so there
before it ends (its last words; the first that are said count), and whoever finds a rank dead or
silent says it for it. All ranks then end with one exit code, and one of them says why: at the next
wait or collective that fails or, where a rank is stuck in one, `GRACE` seconds later by force. What
a run has saved is whole at any instant, so nothing is lost by that.

A rank that was killed on the machine of one that looks is found within two seconds. Elsewhere, and
where a rank is stopped or late, it takes as long as the ranks wait (`TIMEOUT`).
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medmcl.core.atomic import process_space, process_start
from medmcl.core.errors import ConfigError, MedmclError, is_of_memory
from medmcl.engine.rank_store import (
    FAULT,
    RESUME,
    EndedTogether,
    address_told,
    forget_store,
    heed_stop,
    join_store,
    rank_and_size,
)
from medmcl.engine.signals import CTRL_C, EXIT_CODE, Interrupted, StopRequest

_MISTAKE = 2
"""Exit codes, as the command line has them."""

TIMEOUT = 600.0
"""Seconds that ranks wait for one that gives no sign of life, or does not come along in a step."""
GRACE = 5.0
"""Seconds that a rank has to end by itself after last words."""
_LOOK = 0.5
_SETTLE = 3.0
"""Seconds that a rank whose collective failed waits for the words of the one that caused it."""

_joined: ContextVar[Peers | None] = ContextVar("peers", default=None)
_times: list[None] = []


@dataclass(frozen=True)
class LastWords:
    """Why a run ends.

    Attributes:
        by: The rank that says it.
        code: Exit code of all ranks.
        what: What it says.
    """

    by: int
    code: int
    what: str


@contextmanager
def together(timeout: float | None = None) -> Iterator[Peers | None]:
    """What several ranks do inside ends on all of them, or on none; nothing for a lone process.

    Within another such block this is that block.

    Args:
        timeout: Seconds; `TIMEOUT` if not given.

    Raises:
        EndedTogether: Another rank ended the run, or this one by something that is no mistake of
            the user's. Mistakes and stops of this rank are raised as they are.
    """
    outer = _joined.get()
    rank, size = rank_and_size()
    if size == 1 or outer is not None:
        yield outer
        return
    with StopRequest(speaks=rank == 0) as stop:
        peers = Peers(rank, size, join_store(rank, size, timeout or TIMEOUT, stop), stop, timeout)
        token = _joined.set(peers)
        try:
            peers.begin()
            yield peers
            peers.finish()
        except EndedTogether:
            raise
        except BaseException as error:
            ended = peers.blame(error)
            if ended is error:
                raise
            raise ended from error
        finally:
            _joined.reset(token)
            peers.leave()


def peers_here() -> Peers | None:
    """The ranks that this process has joined."""
    return _joined.get()


@dataclass(frozen=True)
class _Process:
    """A rank, as others may look for it: where process numbers mean the same, whether it lives."""

    host: str
    space: str
    number: int
    start: str

    @classmethod
    def own(cls) -> _Process:
        number = os.getpid()
        return cls(socket.gethostname(), process_space(), number, process_start(number))

    @property
    def is_near(self) -> bool:
        return bool(self.start) and self.space == process_space()

    @property
    def is_dead(self) -> bool:
        return self.is_near and process_start(self.number) != self.start

    def __str__(self) -> str:
        return f"process {self.number} on {self.host}"


class Peers:
    """The ranks of a run, as one of them sees them.

    Args:
        rank: Of this process.
        size: How many there are.
        store: Where they leave messages.
        stop: Asked whether this process is to stop; asked to, if another ends.
        timeout: Seconds.
    """

    def __init__(
        self, rank: int, size: int, store: Any, stop: StopRequest, timeout: float | None
    ) -> None:
        from torch.distributed import PrefixStore

        _times.append(None)
        job = [os.environ.get(f"TORCHELASTIC_{name}", "") for name in ("RUN_ID", "RESTART_COUNT")]
        prefix = "/".join(["medmcl", *job, str(len(_times))])
        self.rank, self.size, self.stop = rank, size, stop
        self.timeout = timeout or TIMEOUT
        self.code = 0
        """Exit code that the first rank gives to all."""
        self.last: LastWords | None = None
        self._store = PrefixStore(prefix, store)
        self._own = PrefixStore(prefix, store.clone())
        self.meeting = PrefixStore(f"{prefix}/group", store.clone())
        """The store for process groups."""
        self._known: dict[int, _Process] = {}
        self._lost: set[int] = set()
        self._counts: dict[int, tuple[int, float]] = {}
        self._waits = 0
        self._left = threading.Event()
        self._looked = time.monotonic()
        self._is_cut_off = False
        self.saving = False
        """Whether a checkpoint is being written: this rank is not ended by force meanwhile."""
        self._place: tuple[str, bool, float] = ("starting", False, time.monotonic())
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __str__(self) -> str:
        return self._named(self.rank)

    def _named(self, rank: int) -> str:
        who = self._known.get(rank)
        return f"rank {rank} of {self.size}" + (f" ({who})" if who else "")

    # What the work of a rank calls.

    def begin(self) -> None:
        """Say that this rank is here, and wait for all.

        Raises:
            ConfigError: There is such a rank already.
            EndedTogether: One does not come.
        """
        own = _Process.own()
        self._known[self.rank] = own
        self._sign(0)
        mine = json.dumps(asdict(own))
        if self._store.compare_set(f"hello/{self.rank}", "", mine).decode() != mine:
            forget_store()
            raise ConfigError(
                f"there is another rank {self.rank} already",
                where="MASTER_ADDR:MASTER_PORT, {}:{}".format(*address_told()),
                fix="let each run have a port of its own (MASTER_PORT), each rank a number (RANK)",
            )
        self._looked = time.monotonic()
        self._thread.start()
        threading.Thread(target=self._guard, daemon=True).start()
        self._until("hello", "the others to start", self.timeout)

    def at(self, place: str, *, in_step: bool = False) -> None:
        """Tell where this rank stands; within a step it must move on within the timeout."""
        self._place = (place, in_step, time.monotonic())

    def wait(self, what: str, *, heeds: bool = True) -> None:
        """Wait until every rank is here; for the first as long as it lives.

        Args:
            what: What is waited for.
            heeds: Whether a stop signal ends it; not where all are about to stop.

        Raises:
            EndedTogether: A rank has ended.
            Interrupted: A stop signal came.
        """
        self._waits += 1
        name = f"here/{self._waits}"
        self._store.set(f"{name}/{self.rank}", "1")
        self.at(f"waiting for the others: {what}")
        self._until(name, what, self.timeout if self.rank == 0 else None, heeds=heeds)
        self.at(what)

    def shared(self, what: str, value: Any) -> list[Any]:
        """Give what each rank says (plain JSON values), in their order."""
        self._store.set(f"said/{self._waits + 1}/{self.rank}", json.dumps(value))
        self.wait(what)
        keys = [f"said/{self._waits}/{rank}" for rank in range(self.size)]
        return [json.loads(said) for said in self._store.multi_get(keys)]

    def check(self) -> None:
        """Raise if another rank has ended the run."""
        if self.last is not None:
            raise self._ended(self.last)

    def finish(self) -> None:
        """End well: the first rank says with which code, and the others wait for it."""
        if self.rank == 0:
            self._store.set("end/0", str(self.code))
            with suppress(Exception):  # the run is done, whatever becomes of those who wait
                self._until("left", "the others to end", GRACE, range(1, self.size), heeds=False)
            return
        self.at("waiting for the first rank to end")
        self._until("end", "the first rank to end", None, (0,), heeds=False)
        self.code = int(self._store.get("end/0"))
        self._store.set(f"left/{self.rank}", "1")
        if self.code:
            raise EndedTogether(self.code)

    def blame(self, error: BaseException) -> BaseException:
        """Say what ended this rank, unless another has said what ended it; give what to raise."""
        if isinstance(error, RuntimeError):
            self._settle()
        if self.last is not None:
            return self._ended(self.last)
        self.last = self._tell(*self._words(error))
        if self.last.by != self.rank:
            return self._ended(self.last)
        self._await_hearing(self.last)
        if isinstance(error, MedmclError):
            error.args = (f"{self}: {error}",)
        if isinstance(error, (MedmclError, KeyboardInterrupt, Interrupted)):
            return error
        return self._ended(self.last)

    def leave(self) -> None:
        """Look no longer after the others."""
        self._left.set()
        if self._thread.is_alive():
            self._thread.join(2 * _LOOK)

    # How it does so.

    def _ended(self, last: LastWords) -> EndedTogether:
        self._await_hearing(last)
        return EndedTogether(last.code, f"error: {last.what}" if last.by == self.rank else "")

    def _settle(self) -> None:
        """Wait for the words of another: a collective may have failed for its sake."""
        end = time.monotonic() + _SETTLE
        while self.last is None and time.monotonic() < end:
            time.sleep(0.02)

    def _words(self, error: BaseException) -> tuple[str, int]:
        place = self._place[0]
        if isinstance(error, Interrupted):
            return f"{self} was stopped: {error}", EXIT_CODE
        if isinstance(error, KeyboardInterrupt):
            return f"{self} was ended by Ctrl-C", CTRL_C
        if isinstance(error, MedmclError):
            return f"{self}: {error}", _MISTAKE
        what = f"{self}, at {place}: {type(error).__name__}: {str(error).strip() or 'no more said'}"
        if isinstance(error, OSError) or is_of_memory(error):
            return f"{what}\n  to fix:   mend that on its machine; {RESUME}", FAULT
        told = "".join(traceback.format_exception(error))
        name = f"medmcl-rank-{self.rank}-{os.getpid()}.txt"
        with suppress(OSError):
            file = Path(tempfile.gettempdir()) / name
            file.write_text(told, encoding="utf-8")
            what += f"\n  to look:  {file} on {socket.gethostname()} has the traceback"
        return f"{what}\n  to fix:   {RESUME}", FAULT

    def _tell(self, what: str, code: int, store: Any = None) -> LastWords:
        """Say last words, unless some were said: those are given."""
        mine = LastWords(self.rank, code, what)
        try:
            store = store or self._store
            said = store.compare_set("last", "", json.dumps(asdict(mine)))
            return LastWords(**json.loads(said))
        except Exception:  # whoever held the store is gone
            return mine

    def _await_hearing(self, last: LastWords) -> None:
        """Who speaks, and the first rank, with whom the store may go, end when all have heard."""
        if self._is_cut_off or self.rank not in (0, last.by):
            return
        end = time.monotonic() + GRACE
        deaf = {*range(self.size)} - self._lost - {self.rank}
        with suppress(Exception):
            while deaf and time.monotonic() < end:
                deaf = {
                    rank
                    for rank in deaf
                    if not (self._is_dead(rank) or self._store.check([f"heard/{rank}"]))
                }
                time.sleep(0.02)
            for rank in deaf & self._known.keys():
                self._end_process(rank)

    def _is_dead(self, rank: int) -> bool:
        return rank in self._known and self._known[rank].is_dead

    def _until(
        self,
        name: str,
        what: str,
        limit: float | None,
        ranks: Sequence[int] | None = None,
        *,
        heeds: bool = True,
    ) -> None:
        waiting = [*range(self.size)] if ranks is None else [*ranks]
        began = time.monotonic()
        while True:
            waiting = [rank for rank in waiting if not self._store.check([f"{name}/{rank}"])]
            if name == "hello":
                self._meet(self._store, set(range(self.size)) - {*waiting})
            if not waiting:
                return
            self.check()
            if heeds:
                heed_stop(self.stop, f"waiting for {what}")
            if limit is not None and time.monotonic() - began > limit:
                late = ", ".join(self._named(rank) for rank in waiting)
                self.last = self._tell(
                    f"{late} did not come within {limit:g} s: {what}\n"
                    "  to look:  was it started, and what does it say?\n"
                    f"  to fix:   {RESUME}; --rank-timeout SECONDS waits longer",
                    FAULT,
                )
                raise self._ended(self.last)
            time.sleep(0.02)

    def _meet(self, store: Any, ranks: set[int]) -> None:
        for rank in ranks - self._known.keys():
            self._known[rank] = _Process(**json.loads(store.get(f"hello/{rank}")))

    def _sign(self, count: int) -> None:
        place, _, since = self._place
        said = [count, place, round(time.monotonic() - since)]
        self._own.set(f"alive/{self.rank}", json.dumps(said))

    def _watch(self) -> None:
        """What the thread does: sign, look, and see to it that this rank ends if another has."""
        count = 0
        try:
            while self.last is None and not self._left.wait(_LOOK):
                count += 1
                self._sign(count)
                self.last = self._look()
                self._looked = time.monotonic()
        except Exception:  # the store is gone, and with it who held it
            if not self._left.is_set():
                self.last = self.last or self._without_store("has died, without a word")
        if self.last is not None:
            self._end(self.last)

    def _guard(self) -> None:
        """What a second thread does: end this rank if the first waits for a store that is stuck."""
        while not self._left.wait(_LOOK):
            if time.monotonic() - self._looked > self.timeout:
                self._is_cut_off = True
                silent = f"gives no sign of life for {self.timeout:g} s"
                self.last = self.last or self._without_store(silent)
                if 0 in self._known and 0 in self._lost:
                    self._end_process(0)
                self._end(self.last)

    def _look(self) -> LastWords | None:
        if self._own.check(["last"]):
            return LastWords(**json.loads(self._own.get("last")))
        for rank in {*range(self.size)} - self._known.keys():
            if self._own.check([f"hello/{rank}"]):
                self._meet(self._own, {rank})
        others = self._known.keys() - {self.rank}
        watched = others if self.rank == 0 else {r for r in others if r == 0 or self._is_dead(r)}
        for rank in watched:
            what = self._lost_by(rank)
            if what:
                self._lost.add(rank)
                self._end_process(rank)
                return self._tell(what, FAULT, self._own)
        _, in_step, since = self._place
        if in_step and time.monotonic() - since > self.timeout:
            return self._tell(self._late(), FAULT, self._own)
        return None

    def _lost_by(self, rank: int) -> str:
        """Why a rank is given up; empty if it lives, or has ended as it should."""
        dead = self._is_dead(rank)
        if dead and (self._own.check(["last"]) or self._own.check([f"left/{rank}"])):
            return ""
        count, place, _ = json.loads(self._own.get(f"alive/{rank}"))
        now = time.monotonic()
        if self._counts.get(rank, (-1, now))[0] != count:
            self._counts[rank] = count, now
        silent = now - self._counts[rank][1]
        if dead:
            return (
                f"{self._named(rank)} has died, without a word; last seen at: {place}\n"
                "  to look:  was it killed (for want of memory: dmesg), or its machine?\n"
                f"  to fix:   {RESUME}"
            )
        if silent > self.timeout and not self._own.check([f"left/{rank}"]):
            return (
                f"{self._named(rank)} gives no sign of life for {self.timeout:g} s; last "
                f"seen at: {place}\n"
                "  to look:  was it stopped, or is its machine or network down?\n"
                f"  to fix:   {RESUME}; --rank-timeout SECONDS waits longer"
            )
        return ""

    def _late(self) -> str:
        signs = self._own.multi_get([f"alive/{rank}" for rank in range(self.size)])
        stand = [
            f"rank {rank} at: {place}, for {age} s"
            for rank, (_, place, age) in enumerate(map(json.loads, signs))
        ]
        return (
            f"a step takes longer than {self.timeout:g} s: one rank is late and the others wait\n"
            f"  got:      {'; '.join(stand)}\n"
            f"  to look:  the disk and the machine of the rank that stands behind\n"
            f"  to fix:   {RESUME}; --rank-timeout SECONDS waits longer"
        )

    def _without_store(self, fate: str) -> LastWords:
        """Last words where none can be exchanged: the first rank that is left says them."""
        launched = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        if not launched:
            self._lost.add(0)
        left = [rank for rank in range(self.size) if not self._is_dead(rank)]
        what = (
            f"{'the launcher' if launched else self._named(0)} {fate}\n"
            "  to look:  was it killed (for want of memory: dmesg), stopped, or its machine?\n"
            f"  to fix:   {RESUME}"
        )
        return LastWords(min({*left} - self._lost), FAULT, what)

    def _end_process(self, rank: int) -> None:
        """End a rank that is given up, if it is on this machine: a stopped one would stay."""
        who = self._known[rank]
        if who.is_near and not who.is_dead:
            with suppress(OSError):
                os.kill(who.number, signal.SIGKILL)

    def _end(self, last: LastWords) -> None:
        """Let this rank end by itself, and if it cannot, end it."""
        if not self._is_cut_off:
            with suppress(Exception):
                self._own.set(f"heard/{self.rank}", "1")
        self._looked = math.inf
        self.stop.asked = True
        end = time.monotonic() + GRACE
        while time.monotonic() < end or self.saving:
            if self._left.wait(0.05):
                return
        if last.by == self.rank:
            os.write(2, f"error: {last.what}\n".encode())
        self._await_hearing(last)
        os._exit(last.code)


def same_on_all(
    peers: Peers | None,
    what: str,
    value: Any,
    differences: Callable[[Any, Any], str] = lambda first, other: (
        "" if first == other else f"{first} -> {other}"
    ),
) -> None:
    """Refuse ranks that differ in something, each of them.

    Args:
        peers: The ranks; None: there is one.
        what: What it is.
        value: That of this rank: plain JSON values.
        differences: Of the first rank's and another's; empty if there are none.

    Raises:
        ConfigError: Names the first rank that differs, and how.
    """
    if peers is None:
        return
    first, *others = peers.shared(what, value)
    for rank, other in enumerate(others, 1):
        found = differences(first, other)
        if found:
            raise ConfigError(
                f"the ranks of one run differ: {what}",
                where=f"rank {rank}, beside rank 0 (rank 0 -> rank {rank})",
                got=found,
                fix="start all ranks by one command, with one version of medmcl, on the same data",
            )
