"""Runs of other codebases: read from CSV files, and kept in the folder of a sweep."""
