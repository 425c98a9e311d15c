"""A seeded fuzz suite of the command line: `python -m tests.fuzz --help`."""
