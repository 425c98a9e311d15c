"""A real Slurm on this machine, for tests: two nodes with two pretended GPUs each, accounting or none, preemption."""
