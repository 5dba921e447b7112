"""Cohorts: definition, pairing, checks, preparation, sampling, views."""
