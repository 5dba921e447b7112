"""Tasks scored without labels, by prompts."""
