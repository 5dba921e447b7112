"""The frame that every page is filled into: no script, no font, no address from outside."""

from __future__ import annotations

from typing import Any

MOST_ROWS = 300  # of a table on the page; all are in the CSV files


def fill(template: str, **values: Any) -> str:
    """Fill a template of this package; text is escaped, and a value that lacks is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("medmcl.evaluation.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(most_rows=MOST_ROWS, **values)
