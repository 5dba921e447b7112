"""Counts as files that sites exchange and add up."""
