"""Screening for poisoned rows."""
