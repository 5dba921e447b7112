"""``medmcl predict``."""
