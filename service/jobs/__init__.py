"""Small pieces of work on a run's checkpoints, beside its training: draws and exports."""
