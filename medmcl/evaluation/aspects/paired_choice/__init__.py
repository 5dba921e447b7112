"""Statements that choose between two images."""
