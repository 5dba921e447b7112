"""Errors a person can fix: what is wrong, what was got, what was expected, how to fix it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

E = TypeVar("E", bound="MedmclError")
AGAIN = "copy it again from its source"
FIND_FILE = "correct the path in cohort.yaml, or say with `present` which subjects have it"
_LONGEST = 2_000
"""Letters of one value in a message: a file may hold megabytes of them."""
ENDED: list[float] = []
"""When a signal last ended work by an error, if one did: `medmcl.engine.signals` says it here."""
_TOLD = 10.0
"""Seconds within which C makes an error of its own of Ctrl-C; a later one has another cause."""


def was_ended() -> bool:
    """Whether a signal has just ended work: C that calls Python may make its own error of it.

    pandas, pressed as it reads a file, says that the file is damaged.
    """
    return any(time.monotonic() - at < _TOLD for at in ENDED)


def cut(value: object, longest: int = _LONGEST) -> str:
    """Write a value as a message shows it, without what is beyond so many letters."""
    text = str(value)
    more = len(text) - longest
    return text if more <= 0 else f"{text[:longest]} … and {more:,} more letters"


class MedmclError(ValueError):
    """A mistake in what the user gave: command line, configuration, cohort or artefact.

    Args:
        what: One sentence that says what is wrong.
        where: File, field, subject or record it concerns.
        got: The offending value; empty is shown as ``nothing``.
        expected: What would have been accepted.
        fix: What the user can do about it.
    """

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        got: object = None,
        expected: object = None,
        fix: str | None = None,
    ) -> None:
        self.what, self.where, self.got = what, where, got
        self.expected, self.fix = expected, fix
        lines = [what if where is None else f"{where}: {what}"]
        if got is not None:
            lines.append(f"  got:      {cut(got) or 'nothing'}")
        if expected is not None and (text := cut(expected)):
            lines.append(f"  expected: {text}")
        if fix is not None:
            lines.append(f"  to fix:   {fix}")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        return _as_it_was, (type(self), self.args, vars(self))  # also of kinds that ask for others

    def again(self, kind: type[E], **changes: Any) -> E:
        """Give the same error as one of a kind, with another ``where`` or ``fix``."""
        said = {key: getattr(self, key) for key in ("where", "got", "expected", "fix")}
        return kind(self.what, **{**said, **changes})

    @property
    def detailed(self) -> str:
        """What is wrong in one line, with what was got and expected."""
        pairs = (("got", self.got), ("expected", self.expected))
        details = [f"{label} {cut(value)}" for label, value in pairs if value is not None]
        return self.what + (f" ({'; '.join(details)})" if details else "")


def _as_it_was(kind: type[E], words: tuple[Any, ...], said: dict[str, Any]) -> E:
    error = kind.__new__(kind, *words)
    vars(error).update(said)
    return error


class ConfigError(MedmclError):
    """A recipe, an override or a command line that cannot be used."""


class OverrideError(ConfigError):
    """A ``--set`` that cannot be used."""


class CohortError(MedmclError):
    """A cohort definition or one of its tables that cannot be used."""


class RecordError(MedmclError):
    """One record (file) that cannot be read or that fails its quality checks."""


@contextmanager
def damage(
    where: object,
    what: str = "cannot be read; the file is damaged or of another format",
    *,
    error: type[MedmclError] = RecordError,
    expected: object = None,
    fix: str | None = AGAIN,
) -> Iterator[None]:
    """Say in words whatever a library raises within: of damaged bytes they raise many kinds.

    Args:
        where: The file.
        what: What is wrong with it then.
        error: Kind of the error that takes its place.
        expected: What would have been accepted.
        fix: What the user can do about it.

    Raises:
        MedmclError: Of the kind asked for; one that was raised in words goes through.
    """
    try:
        yield
    except MedmclError:
        raise
    except Exception as raised:
        got = f"{type(raised).__name__}: {' '.join(str(raised).split())[:200]}"
        if isinstance(raised, MemoryError):
            got = "more than the memory that is free: the file claims too much, or little is free"
            fix = "; ".join(
                ("if the file is sound, free memory or read in fewer workers", fix or "")
            )
        raise error(what, where=where, got=got, expected=expected, fix=fix) from None


def is_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or of a GPU: nobody's code is at fault."""
    allocator = "DefaultCPUAllocator" in str(error)  # torch raises a RuntimeError on a CPU
    return isinstance(error, MemoryError) or allocator or type(error).__name__ == "OutOfMemoryError"


def memory_error(error: BaseException) -> MedmclError | None:
    """Say in words that memory ran out; None if something else is wrong."""
    if not is_of_memory(error):
        return None
    return MedmclError(
        "memory ran out",
        got=" ".join(str(error).split())[:200] or type(error).__name__,
        fix="lower what was set high (batch_size, a width, size or rate), give --workers fewer "
        "processes, or free memory; `medmcl check --gpu` says what a GPU needs; a run "
        "goes on with --resume",
    )


class ArtefactError(MedmclError):
    """A run, checkpoint or cache that is missing, broken or of another kind."""


class ContractError(ConfigError):
    """A part of another package that does not keep its contract: the package is to be corrected."""


class LeakageError(MedmclError):
    """Something was about to be fitted or chosen on what must stay unseen until it is scored."""


class ExtraNotInstalledError(MedmclError):
    """An optional dependency is needed; the message names the extra to install."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(
            f"the optional package '{module}' is not installed",
            fix=f"pip install 'medmcl[{extra}]'",
        )
