"""A run: its folder, what it keeps, how it is made and reported."""
