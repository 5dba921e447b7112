"""The same commands on a cluster: a script for Slurm, or tasks of Ray."""
