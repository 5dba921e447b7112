"""What a selection of pairs keeps."""
