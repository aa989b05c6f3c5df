"""A simulated world: small policies learn which sets of items suit users of hidden tastes."""
