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


def random_spans(generator, n, t, k):
    """Disjoint spans with empty and touching ones among them, columns in any order."""
    cuts = np.sort(generator.integers(0, t + 1, (n, 2 * k)), axis=1)
    starts, ends = cuts[:, 0::2].copy(), cuts[:, 1::2].copy()
    touching = generator.random((n, max(k - 1, 0))) < 0.3
    starts[:, 1:] = np.where(touching, ends[:, :-1], starts[:, 1:])
    # Padding may stand anywhere, inside another span and outside of the tokens too.
    padding = generator.random((n, k)) < 0.2
    anywhere = generator.integers(-1, t + 2, (n, k))
    starts, ends = np.where(padding, anywhere, starts), np.where(padding, anywhere, ends)
    order = generator.random((n, k)).argsort(axis=1)
    return (torch.tensor(np.take_along_axis(x, order, axis=1)) for x in (starts, ends))
