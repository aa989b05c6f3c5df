"""A catalogue that trains in a moment."""

from recipe.shape_grpo.catalogue.training import CatalogueSettings

SMALL = CatalogueSettings(
    items=20,
    prompts=8,
    prompts_per_step=4,
    updates=5,
    hidden_size=8,
    seeds=(1, 2, 3),
    validate_every=2,
)


def learnt(run):
    """All of a seed's metrics but the time."""
    return {
        (step, name): value
        for step, metrics in run.items()
        for name, value in metrics.items()
        if name != "timing_s/step"
    }
