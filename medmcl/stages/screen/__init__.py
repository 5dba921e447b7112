"""``medmcl check --screen``."""
