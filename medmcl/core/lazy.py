"""What is imported only when it is asked for: the public names of a package, and parts by name.

A part is something that a recipe or a cohort names: an encoder, an objective, an adapter. A map of
parts says where each is defined, so that whoever lists, checks or reads one loads no other.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from difflib import get_close_matches
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from medmcl.core.errors import ConfigError, ContractError, ExtraNotInstalledError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

GROUPS = {
    f"medmcl.{kind}": kind
    for kind in ("aspects", "cards", "encoders", "modalities", "models", "objectives", "scorers",
                 "selectors", "stages")
}  # fmt: skip
"""Groups of entry points by which packages outside add something, to their last word."""
Keeps = Callable[[str, Any, str], None]
"""Takes name, part and package of a part from outside; `ContractError` if it is not as it must."""


def lazy(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Give ``__getattr__`` and ``__dir__`` of a package whose names are imported when asked for.

    The names, ``__all__`` of the package, are those that its source imports under
    ``if TYPE_CHECKING:``, so type checkers, editors and Python read one list: each ``as`` itself,
    by which checkers know that it is for others. None may be called as a module of the package:
    once that is imported it would hide the name.

    Args:
        package: ``__name__`` of the package.
    """

    def get(name: str) -> Any:
        if name == "__all__":
            return sorted(_homes(package))
        home = None if name.startswith("__") else _homes(package).get(name)
        if home is None:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        module, original = home
        if module == package:
            return importlib.import_module(f"{package}.{original}")
        return getattr(importlib.import_module(module), original)

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *_homes(package)})

    return get, listed


@cache
def _homes(package: str) -> dict[str, tuple[str, str]]:
    """Name to the module that it is imported from, and what it is called there."""
    tree = ast.parse(Path(str(sys.modules[package].__file__)).read_text(encoding="utf-8"))
    blocks = [one for one in tree.body if isinstance(one, ast.If)]
    lines = [
        line
        for one in blocks
        if isinstance(one.test, ast.Name) and one.test.id == "TYPE_CHECKING"
        for line in one.body
    ]
    return {
        alias.asname or alias.name: (str(line.module), alias.name)
        for line in lines
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }


@cache
def _installed() -> Any:  # of another type in Python 3.11 than later
    from importlib.metadata import entry_points

    found = entry_points()
    for group in sorted({one for one in found.groups if one.startswith("medmcl.")} - {*GROUPS}):
        near = get_close_matches(group.removeprefix("medmcl."), GROUPS.values(), n=1, cutoff=0.75)
        for one in found.select(group=group) if near else ():
            raise ContractError(
                f"nothing reads the entry points '{group}'; did you mean 'medmcl.{near[0]}'?",
                where=f"'{one.name}' of the package {one.dist.name if one.dist else 'unknown'}",
                fix="correct its entry points, see docs/extend.md, or uninstall it",
            )
    return found


def import_extra(module: str, extra: str) -> Any:
    """Import a module that an extra of medmcl brings.

    Raises:
        ExtraNotInstalledError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ExtraNotInstalledError(module.partition(".")[0], extra) from None


def entry_points_of(group: str) -> EntryPoints:
    """Give what installed packages offer to a group; what is installed is read once a process."""
    found: EntryPoints = _installed().select(group=group)
    return found


class Parts(MutableMapping[str, Any]):
    """Parts by name, each imported when it is looked up: those of medmcl, and of packages outside.

    Keys, their number and ``in`` import nothing; values and items import every part.

    Args:
        homes: Name to ``module:Name``; or to a pair of these, the second being its ``Settings``,
            where they stand apart from what is heavy to import.
        group: Entry points by which an installed package adds parts, name = ``module:Name``; their
            settings are the attribute ``Settings`` of the part.
        settings: Module where the settings of ``Name`` stand as ``NameSettings``, of all parts of
            which ``homes`` does not say it; none stand apart if not given.
        keeps: Looks at each part from outside once, when it is imported.

    Attributes:
        settings: Name to the model of what can be set, without importing a part whose settings
            stand apart.
        group: Group of the entry points; empty: nothing comes from outside.
    """

    def __init__(
        self,
        homes: Mapping[str, str | tuple[str, str]],
        group: str = "",
        settings: str = "",
        keeps: Keeps | None = None,
    ) -> None:
        self._own: dict[str, Any] = {
            name: (home, f"{settings}:{home.partition(':')[2]}Settings")
            if settings and isinstance(home, str)
            else home
            for name, home in homes.items()
        }
        self.group = group
        self.settings: Mapping[str, Any] = _Settings(self)
        self._keeps = keeps
        self._kept: dict[str, Any] = {}

    @cached_property
    def outside(self) -> dict[str, str]:
        """Name to ``module:Name`` of the parts of other packages, as their entry points say.

        Raises:
            ConfigError: One is called as another part is.
        """
        found: dict[str, str] = {}
        for one in entry_points_of(self.group) if self.group else ():
            if one.name in self._own or found.get(one.name, one.value) != one.value:
                raise ConfigError(
                    f"two parts are called '{one.name}'",
                    where=f"entry points '{self.group}'",
                    got=f"{one.value} of {one.dist.name if one.dist else 'a package'}",
                    fix="give it another name in the pyproject.toml of that package, or uninstall "
                    "the package",
                )
            found[one.name] = one.value
        return found

    def package(self, name: str) -> str:
        """Give the package that a part is of."""
        if name in self._own:
            return "medmcl"
        found = next((one for one in entry_points_of(self.group) if one.name == name), None)
        return "an unknown package" if found is None or found.dist is None else found.dist.name

    def home(self, name: str) -> Any:
        """Give where a part is defined; see ``homes``.

        Raises:
            KeyError: There is no such part.
        """
        return self._own[name] if name in self._own else self.outside[name]

    def __getitem__(self, name: str) -> Any:
        if name in self._own or name not in self.outside:
            home = self.home(name)
            return _imported(home[0] if isinstance(home, tuple) else home)
        if name not in self._kept:
            package = self.package(name)
            part = _imported(self.outside[name], package)
            if self._keeps is not None:
                self._keeps(name, part, package)
            self._kept[name] = part
        return self._kept[name]

    def __setitem__(self, name: str, part: Any) -> None:
        self._own[name] = part

    def __delitem__(self, name: str) -> None:
        del self._own[name]

    def __iter__(self) -> Iterator[str]:
        return iter([*self._own, *self.outside])

    def __len__(self) -> int:
        return len(self._own) + len(self.outside)

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self.outside


class _Settings(Mapping[str, Any]):
    """The settings of parts by name."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def __getitem__(self, name: str) -> Any:
        home = self._parts.home(name)
        return _imported(home[1]) if isinstance(home, tuple) else self._parts[name].Settings

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def packages_with_parts() -> dict[str, dict[str, Any]]:
    """Give the packages that bring parts: ``version``, digest of ``code``, ``parts`` by group."""
    found: dict[str, dict[str, Any]] = {}
    for group in sorted(one for one in _installed().groups if one.startswith("medmcl.")):
        for one in entry_points_of(group):
            if one.dist is not None:
                code = package_digest(one.value.partition(":")[0].partition(".")[0])
                about = {"version": one.dist.version, "code": code, "parts": {}}
                package = found.setdefault(one.dist.name, about)
                package["parts"].setdefault(group, []).append(one.name)
    return found


@cache
def package_digest(module: str, *others: Path) -> str:
    """Hash the Python files of a package, which is not imported, and others; empty of none."""
    found = find_spec(module)
    folders = (found and found.submodule_search_locations) or ()
    files = {*others, *(one for folder in folders for one in Path(folder).rglob("*.py"))}
    if found is not None and found.origin is not None and found.has_location:
        files.add(Path(found.origin))
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest() if files else ""


def _imported(home: Any, package: str = "unknown") -> Any:
    """Import what ``module:Name`` says; a part that was put in itself is given as it is.

    Raises:
        ContractError: A package outside does not have what its entry point says, or breaks.
    """
    if not isinstance(home, str):
        return home
    module, _, name = home.partition(":")
    if home.startswith("medmcl."):
        return getattr(importlib.import_module(module), name)
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a module of strangers may raise anything
        raise ContractError(
            f"a part of another package cannot be imported: {type(error).__name__}: {error}",
            where=f"{home} (package {package})",
            fix="fix or uninstall the package whose entry point says so",
        ) from error


def refuse_slips(group: str, name: str, package: str, slips: Sequence[str]) -> None:
    """Raise what is wrong with a part, if anything is, as a fault of its package.

    Raises:
        ContractError: There are ``slips``.
    """
    if slips:
        raise ContractError(
            "does not keep its contract:\n" + "\n".join(f"  - {slip}" for slip in slips),
            where=f"'{name}' of the package {package} (entry points '{group}')",
            fix=f"correct {package}, see docs/extend.md, or uninstall it",
        )


def has(group: str, *methods: str, named_by: str = "") -> Keeps:
    """Give what looks whether a part has ``Settings``, and one of some methods.

    Args:
        group: Group of the entry points.
        methods: What it is called by; one of them is enough.
        named_by: Field of ``Settings`` that must be ``Literal[NAME]``, the name of the entry point.
    """

    def keeps(name: str, part: Any, package: str) -> None:
        slips = []
        if methods and not any(callable(getattr(part, one, None)) for one in methods):
            slips.append(f"the method {' or '.join(methods)} is missing")
        if not is_config(part, "Settings"):
            slips.append("Settings must be a class of Config")
        elif named_by and name not in (found := literals(part.Settings, named_by)):
            is_now = f"it is Literal{list(found)}" if found else "it is no Literal"
            slips.append(f'{named_by} of its Settings must be Literal["{name}"], as its entry '
                         f"point: {is_now}")  # fmt: skip
        refuse_slips(group, name, package, slips)

    return keeps


def is_config(part: Any, name: str) -> bool:
    """Whether an attribute of a part is a class of settings."""
    from medmcl.core.config import Config

    found = getattr(part, name, None)
    return isinstance(found, type) and issubclass(found, Config)


def literals(model: Any, field: str) -> tuple[str, ...]:
    """Give what a field of a model may say where it is a Literal; empty if it is none."""
    found = model.model_fields.get(field)
    literal = found is not None and get_origin(found.annotation) is Literal
    return tuple(map(str, get_args(found.annotation))) if found is not None and literal else ()
