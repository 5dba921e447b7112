"""What embeddings tell beside the tasks."""
