"""What can be wrong with an ECG as read, one kind of fault a file."""
