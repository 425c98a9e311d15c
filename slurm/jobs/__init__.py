"""The processes that jobs run: train packs, work on a search, draw the report. Each file has a `main`."""

# Increase it if a job's module or option is new or renamed: older snapshots of the code then run no such job.
COMMAND_VERSION = 4
