"""The command line: everything that reads arguments or prints to the terminal. No other package imports it.

`main.py` lists the commands. Each command is in the file that has its name, or that of a related command:

- what to run: `sweeps.py` (sweeps, show), `plan.py`, `search.py` (search run, search confirm)
- train here: `run.py`
- jobs: `submit.py`, `resubmit.py` (resume, retry), `cancel.py` (cancel, throttle), `clean.py`, `profile.py`
- progress: `status.py`, `logs.py`
- results: `report.py` (report, import), `export.py`, `search_results.py` (search show)

Commands share `help.py` (the style of `--help`), `options.py` (options and their help), `sweep_argument.py` and
`trained.py` (which sweep is meant), `filters.py` (which runs are meant), `slurm_queue.py` (calls of Slurm) and
`console.py` (terminal, exit codes). Files named `*_view.py`, `*_table.py` and `*progress.py` draw. What a command
computes belongs in the other packages.
"""
