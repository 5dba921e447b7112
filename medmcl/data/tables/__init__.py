"""Tables as people have them: files, cells, columns."""
