"""Where packs run: profiles, submissions, their status, and the backends that start jobs (Slurm, or this machine).

`backend.py` is the protocol of a backend, `submit.py` selects and submits packs, `status.py` reads their states.
"""
