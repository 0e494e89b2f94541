"""Reports. They read result files and nothing else."""
