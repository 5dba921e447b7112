"""Texts: tokens, vocabularies, sections, augmentation."""
