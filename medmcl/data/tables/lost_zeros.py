"""Ids that lost the zeros before them where a table was read as numbers: 94 for 094."""

from __future__ import annotations

from collections.abc import Iterable

from medmcl.core.errors import CohortError, MedmclError
from medmcl.core.findings import counted

PARTS = "\x1f"
"""What parts the columns of a key that several make."""


def refuse_lost_zeros(
    theirs: Iterable[str | None],
    ours: Iterable[str | None],
    where: str,
    error: type[MedmclError] = CohortError,
) -> None:
    """Refuse keys that are ours but for the zeros before them.

    Of ids of one length those that begin with no zero keep agreeing, so that the others would
    count as people without data, or to whom nothing happened.

    Args:
        theirs: Keys of a table.
        ours: Those that they are looked up among.
        where: What the message calls the table.
        error: What is raised.
    """
    named, known = ({one for one in each if one is not None} for each in (theirs, ours))
    if named <= known:
        return
    bare = {_bare(one): one for one in known - named}
    lost = sorted(one for one in named - known if _bare(one) in bare)
    if lost:
        raise error(
            f"{counted(len(lost), 'id')} of {len(named):,} agree with the cohort's but for the "
            "zeros before them",
            where=where,
            got=repr(lost[0]),
            expected=repr(bare[_bare(lost[0])]),
            fix="write ids as text in both tables, with their zeros (pandas: dtype={'id': str})",
        )


def _bare(key: str | None) -> str:
    return PARTS.join(part.lstrip("0") for part in str(key).split(PARTS))
