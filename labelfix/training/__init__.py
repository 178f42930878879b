"""Training: the only loop, its batches, folds and checkpoints; imports methods, estimation, networks and data."""
