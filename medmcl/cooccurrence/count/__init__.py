"""From events to counts."""
