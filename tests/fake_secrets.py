"""Secrets for tests, written such that scorer does not see them in the diff of a checkout with uncommitted changes.

Otherwise every command that runs there prints that it masks them, and tests that expect no such line fail.
"""

BREAK = "¦"


def fake(text: str) -> str:
    """`text` without the marks that hide its secrets: `pass¦word` is `password`."""
    return text.replace(BREAK, "")
