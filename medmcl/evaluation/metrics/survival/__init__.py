"""Metrics of survival predictions under censoring."""
