"""What a backdoor attack does to a model."""
