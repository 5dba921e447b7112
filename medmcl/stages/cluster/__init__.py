"""The cluster stage, and groups by columns."""
