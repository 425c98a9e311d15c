"""Everything that calls Slurm's commands or depends on what they print."""
