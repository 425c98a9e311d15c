"""Results for other tools, one module per destination; training imports none of them.

- `tables.py`: CSV, Parquet and NumPy files of the finished runs
- `wandb_runs.py`, `tensorboard_files.py`: every run, also while it trains. Both read the committed rows from `runs.py`,
  name them with `names.py`, and record in `marks.py` how far they got
"""
