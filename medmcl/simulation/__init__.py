"""Cohorts whose truth is known."""
