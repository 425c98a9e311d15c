"""Faults that are known and not fixed yet: a pattern in a fault's text, and where it comes from.

A fault that matches is counted and printed, and does not fail the suite. This must be empty in a release.
"""

KNOWN: dict[str, str] = {}
