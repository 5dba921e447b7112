"""What experts of a router take."""
