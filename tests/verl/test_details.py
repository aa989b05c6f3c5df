"""Details of any type in a validation, through verl's own averages."""

import json
import logging

import numpy as np
import pytest

from shape_grpo.verl.checks import RECORD_KEY
from shape_grpo.verl.details import one_type_per_key
from tests.verl.fake_queue import scored

DETAILS = {
    # values of four responses: what is averaged, the number left out
    "numbers": ([1, 2.0, True, np.float32(4)], [1, 2.0, True, 4], 0),
    "number, then text": ([1.0, "none", 3.0, 4.0], [1.0, None, 3.0, 4.0], 1),
    "text, then numbers": (["none", 1.0, 3.0, 4.0], [None, 1.0, 3.0, 4.0], 1),
    "text": (["a", "b", None, "d"], ["a", "b", None, "d"], 0),
    "missing in some": ([None, 2.0, None, 4.0], [None, 2.0, None, 4.0], 0),
    "missing in all": ([None] * 4, None, 0),
    "lists": ([[1], [1, 2], [], None], None, 3),
    "a list among numbers": ([1.0, [1, 2], 3.0, {}], [1.0, None, 3.0, None], 2),
    "NumPy's": ([np.float32(1), np.bool_(True), np.int64(3), 4], [1, True, 3, 4], 0),
    "huge": ([10**400, 2.0, 3e38, 4.0], [None, 2.0, None, 4.0], 2),
    "NaN and infinity": ([float("nan"), 2.0, float("inf"), 4.0], [None, 2.0, None, 4.0], 2),
}


@pytest.mark.parametrize(("values", "kept", "number"), DETAILS.values(), ids=DETAILS)
@pytest.mark.parametrize("order", [1, -1])
def test_verl_averages_what_is_left(make_trainer, values, kept, number, order, caplog):
    trainer = make_trainer()
    infos = {
        "reward": [1.0, 2.0, 3.0, 4.0],
        "detail": values[::order],
        RECORD_KEY: [scored(1.0).to_json()] * 4,
    }
    arguments = (["films"] * 4, ["a", "a", "b", "b"], infos, np.ones(4))
    with caplog.at_level(logging.WARNING, "verl"):
        for _ in range(2):
            metrics = trainer._val_metrics_update(*arguments)
    assert metrics["val-core/films/reward/mean@2"] == 2.5
    assert metrics.get("val-aux/shape_grpo/details_left_out", 0) == number
    assert len(caplog.records) == bool(number)
    assert one_type_per_key({"x": values})[0].get("x") == kept
    averaged = [name for name in metrics if name.startswith("val-aux/films/detail/mean")]
    assert bool(averaged) == (kept is not None and not isinstance(kept[0], str))


def test_votes_stay_votes(make_trainer):
    """verl's majority vote compares the answers under `pred`, of any type."""
    trainer = make_trainer()
    infos = {"reward": [1.0, 2.0, 2.0, 5.0], "pred": ["4", 4, [4], 5]}
    metrics = trainer._val_metrics_update(["films"] * 4, ["a"] * 4, infos, np.ones(4))
    assert "val-core/films/reward/maj@4/mean" in metrics


def test_the_record_is_no_detail_and_stays_in_the_file(make_trainer, monkeypatch):
    trainer = make_trainer()
    seen = {}
    name = "_val_metrics_update"
    base = next(kind for kind in type(trainer).__mro__[2:] if name in vars(kind))
    monkeypatch.setattr(base, name, lambda self, a, b, infos, *c, **d: seen.update(infos) or {})
    infos = {"reward": [1.0], RECORD_KEY: [scored(1.0).to_json()]}
    trainer._val_metrics_update(["films"], ["a"], infos, np.ones(1))
    assert seen == {"reward": [1.0]}
    assert json.loads(infos[RECORD_KEY][0])["rewards"] == [1.0]


@pytest.mark.parametrize(("accs", "mean"), [([1.0, 1.0], 2 / 3), ([-2.0, -3.0], -2.5)])
def test_a_lost_session_is_no_0_above_negative_ones(make_trainer, accs, mean):
    trainer = make_trainer()
    infos = {"reward": accs, "acc": accs}
    metrics = trainer._val_metrics_update(
        ["films"] * 2, ["a", "a"], infos, np.ones(2), expected_acc_counts={("films", "a"): 3}
    )
    (name,) = (name for name in metrics if name.startswith("val-core/films/acc/mean"))
    assert metrics[name] == pytest.approx(mean)
