"""Masked data modelling."""
