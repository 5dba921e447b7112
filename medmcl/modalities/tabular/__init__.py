"""Numbers and categories of a record."""
