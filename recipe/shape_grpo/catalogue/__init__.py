"""A simulated world, in which small policies learn to suggest sets of items."""
