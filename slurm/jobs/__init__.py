"""The processes that jobs run: train one pack, work on a search, draw the report. Each file has a `main`."""

# Increase it if a job's module or option is renamed: older snapshots of the code then run no jobs of this version.
COMMAND_VERSION = 3
