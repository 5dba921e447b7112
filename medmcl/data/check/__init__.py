"""``medmcl check``: what is wrong with a cohort."""
