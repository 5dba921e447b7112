"""Recipes and their stages: from a cohort and a YAML list of stages to a run folder."""
