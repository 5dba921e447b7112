"""``medmcl cooccur`` commands that embed, evaluate and merge."""
