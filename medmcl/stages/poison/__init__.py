"""The poison stage."""
