"""Imported by every Python that a test starts: see `offline`."""

import os
import sys

import offline

if offline.NOTES in os.environ:
    sys.addaudithook(offline.watch)
