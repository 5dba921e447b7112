"""The frame that every page is filled into: no script, no font, no address from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medmcl.evaluation.report.section import Section

MOST_ROWS = 300  # of a table on the page; all are in the CSV files


def fill(template: str, **values: Any) -> str:
    """Fill a template of this package; a value that lacks is an error.

    Text is escaped, and does not say where files lie.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from medmcl.core.suppression import placeless

    environment = Environment(
        loader=PackageLoader("medmcl.evaluation.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: placeless(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(most_rows=MOST_ROWS, **values)


def page_of(
    sections: Sequence[Section],
    title: str,
    subtitle: str = "",
    provenance: Mapping[str, Any] | None = None,
) -> str:
    """Give sections as a page of their own, HTML text that needs nothing outside itself.

    Args:
        sections: In their order.
        title: Heading.
        subtitle: One line below it.
        provenance: Name to value, shown at the end.
    """
    from medmcl.evaluation.report.files import plain_text

    return fill(
        "selection.html.j2",
        title=title,
        subtitle=subtitle,
        sections=sections,
        provenance={str(key): plain_text(value) for key, value in (provenance or {}).items()},
    )
