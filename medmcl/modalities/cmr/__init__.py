"""Cardiac MR: readers, checks, features, augmentation."""
