"""Counts that may leave a site: thresholds, noise, budgets."""
