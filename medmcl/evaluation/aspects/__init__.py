"""What is measured, one folder an aspect: measure, figures, words."""
