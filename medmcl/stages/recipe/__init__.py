"""Recipes: their file, their spec, and what they are on a cohort."""
