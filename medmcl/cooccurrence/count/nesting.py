"""Which vocabularies are nested: an event of one code counts for another one too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medmcl.cooccurrence.count.counts import Vocabulary


def nested_modalities(
    parents: Mapping[str, Sequence[str]] | None, vocabularies: Mapping[str, Vocabulary]
) -> tuple[str, ...]:
    """Modalities in which a roll-up counts one event for more than one code, sorted.

    With the leaves of P1 and P2 rolled up to both their group and G, G - P1 is P2: cells are then
    sums of others, and one that is left out may be their difference. Codes of two modalities that
    share an event are nested too. What the source itself wrote twice cannot be seen here.

    Args:
        parents: Code to the codes that are counted in its place; None if nothing is rolled up.
        vocabularies: Codes that are counted; a parent outside them counts nothing.
    """
    homes: dict[str, set[str]] = {}
    for name, words in vocabularies.items():
        for token in words.tokens:
            homes.setdefault(token, set()).add(name)
    found: set[str] = set()
    for targets in (parents or {}).values():
        kept = {target for target in targets if target in homes}
        if len(kept) > 1:
            found = found.union(*(homes[target] for target in kept))
    return tuple(sorted(found))
