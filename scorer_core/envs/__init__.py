"""Environments: the names of tasks (tasks.py, no torch), the interface to a pack, our games, and gymnasium's."""
