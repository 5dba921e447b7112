"""Where an embedding looks in an image."""
