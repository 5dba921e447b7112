"""Scorers and selectors as parts of a recipe."""

import pytest

from medmcl.core.errors import ConfigError
from medmcl.selection import settings
from medmcl.selection.settings import ScoreSettings


def test_a_scorer_whose_settings_say_no_kind_is_named(monkeypatch):
    class Unkind:
        Settings = ScoreSettings

    monkeypatch.setitem(settings.SCORERS, "unkind", Unkind)
    settings._by_kind.cache_clear()
    with pytest.raises(ConfigError, match=r"medmcl\.scorers(.|\n)*ScoreSettings(.|\n)*Literal"):
        settings._by_kind(of_scorers=True)
    settings._by_kind.cache_clear()
