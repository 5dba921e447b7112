"""``medmcl cohorts``: what ships, in two lines each, or one as its definition says it."""

from __future__ import annotations

from collections.abc import Mapping

from medmcl.core.config import read_yaml
from medmcl.data.cohort.locate import find_cohort, is_template, list_cohorts


def list_of_cohorts() -> str:
    """Write every cohort with what it is and its recipe; the template is called one."""
    lines = []
    for name, path in list_cohorts().items():
        tree = read_yaml(path)
        about = str(tree.get("about", ""))
        if is_template(path):
            about = "a template without data: copy the folder and fill it in"
        recipe = tree.get("recipe") or "none; name one with --recipe"
        lines.append(f"{name:20s} {about}\n{'':20s} recipe: {recipe}")
    return "\n".join(lines)


def one_cohort(name: str) -> str:
    """Write what a cohort definition says it has, without opening any data."""
    path = find_cohort(name)
    tree = read_yaml(path)
    lines = [str(name), f"  {tree.get('about', '')}", f"  file: {path}"]
    lines += [f"  data: {tree['access']}"] if tree.get("access") else []
    lines.append(f"  recipe: {tree.get('recipe') or 'none; name one with --recipe'}")
    for section, keys in (("modalities", ("kind", "reader")), ("tasks", ("kind", "about"))):
        given = tree.get(section)
        lines += ["", section] if isinstance(given, Mapping) and given else []
        for one, said in given.items() if isinstance(given, Mapping) else ():
            told = [str(said[key]) for key in keys if isinstance(said, Mapping) and said.get(key)]
            lines.append(f"  {one:20s} {'; '.join(told)}")
    lines += ["", "change a value with --set cohort.KEY=VALUE, as in --set cohort.tasks.NAME=null"]
    return "\n".join(lines)
