"""The only place that imports verl: estimator, reward manager, trainers, metrics (verl 0.9.1)."""
