"""Random responses, for tests."""

import uuid

import numpy as np
import torch


def random_batch(seed, *, groups=6, columns=6, equal_lengths=False, values=None, empty_rows=True):
    """Groups of 1 to 6 responses in mixed order, each with 0 to ``columns`` candidates.

    Returns:
        rewards, mask, lengths (N, K), index (N,), starts, ends (N, K), response_mask (N, T).
    """
    generator = np.random.default_rng(seed)
    sizes = np.concatenate([[1], generator.integers(1, 7, groups - 1)])
    index = np.repeat([str(uuid.UUID(int=g)) for g in range(groups)], sizes).astype(object)
    generator.shuffle(index)
    n = len(index)
    mask = generator.random((n, columns)) < 0.6
    if not empty_rows:
        mask[:, 0] = True
    if values is None:
        rewards = generator.normal(size=(n, columns))
    else:
        rewards = generator.choice(values, (n, columns))
    rewards = np.where(mask, rewards, np.nan)
    lengths = generator.integers(1, 9, (n, 1 if equal_lengths else columns))
    lengths = np.where(mask, lengths, 0)
    gaps = generator.integers(0, 3, (n, columns))
    ends = (gaps + lengths).cumsum(axis=1)
    response_mask = torch.ones(n, ends.max() + 2)
    arrays = (rewards, mask, lengths)
    return (
        *map(torch.tensor, arrays),
        index,
        *map(torch.tensor, (ends - lengths, ends)),
        response_mask,
    )
