"""Training: priors (`gan`) and supervised baselines (`supervised`). Nothing imports it but the command line."""
