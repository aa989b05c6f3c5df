"""The only place that imports verl: checks, estimator, reward manager, trainers (verl 0.9.1)."""
