"""The trainer: a recipe in, a run folder out. Started by torchrun; it knows nothing of the service that may have launched it."""
