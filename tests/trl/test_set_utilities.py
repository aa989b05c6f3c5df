"""Utilities of texts and of subsets, and several rewards, through a real TRL trainer."""

import statistics

import pytest

from tests.credit.oracles import all_orders
from tests.trl.tiny_policy import answer, make_trainer, scored_batch

RESPONSES = [answer("ab", "bcd"), answer("ab"), "none", answer("ab", "xyz")]


def letters(solutions):
    return float(len(set("".join(solutions))))


def lengths(completions, **columns):
    return [float(len(text)) for text in completions]


def token_advantages(trainer, batch):
    """Advantage of the first token of each candidate, and of a shared one, by response."""
    found = []
    for row, record in enumerate(trainer.records):
        own = [batch["advantages"][row, start].item() for start in record.starts]
        found.append((own, batch["advantages"][row, 0].item()))
    return found


def expected(scores, shares):
    """By plain loops: the paper's formula, for one group."""
    mean, std = statistics.mean(scores), statistics.stdev(scores)
    found = []
    for score, of_set in zip(scores, shares, strict=True):
        advantage = (score - mean) / (std + 1e-6)
        weights = [share * len(of_set) / score for share in of_set]
        found.append(([weight * advantage for weight in weights], advantage))
    return found


def check(found, wanted):
    for (own, shared), (own_wanted, shared_wanted) in zip(found, wanted, strict=True):
        assert own == pytest.approx(own_wanted, abs=1e-4)
        assert shared == pytest.approx(shared_wanted, abs=1e-4)


def test_the_oracle_is_asked_about_subsets(tmp_path):
    seen = []

    def utility(solutions, prompt, viewer):
        seen.append((tuple(solutions), prompt, viewer))
        return letters(solutions)

    trainer = make_trainer(
        tmp_path, utility, RESPONSES, columns={"viewer": ["x"]}, utility="oracle"
    )
    batch = scored_batch(trainer)
    sets = [["ab", "bcd"], ["ab"], [], ["ab", "xyz"]]
    shares = [all_orders(letters, texts) if texts else [] for texts in sets]
    assert [record.shares for record in trainer.records] == [pytest.approx(each) for each in shares]
    scores = [letters(texts) if texts else 0.0 for texts in sets]
    check(token_advantages(trainer, batch), expected(scores, shares))
    assert len(seen) == 3 + 1 + 3
    assert {(prompt, viewer) for _, prompt, viewer in seen} == {("p", "x")}


@pytest.mark.parametrize(
    ("column", "value"),
    [("extra_info", {"index": 3}), ("extra_info", "text"), ("ground_truths", "abc")],
)
def test_an_oracles_columns_may_have_verls_names(tmp_path, column, value):
    seen = []

    def utility(solutions, candidate_indices, ground_truths=None, extra_info=None):
        seen.append((solutions, candidate_indices, ground_truths or extra_info))
        return letters(solutions)

    columns = {column: [value]}
    trainer = make_trainer(tmp_path, utility, RESPONSES, columns=columns, utility="oracle")
    scored_batch(trainer)
    assert trainer.records[0].rewards == [2.0, 3.0]
    assert (["bcd"], [1], value) in seen


@pytest.mark.parametrize("settings", [{"reward_weights": [0.5, 0.5]}, {"reward_weights": [-1.0]}])
def test_an_oracle_is_one_function(tmp_path, settings):
    functions = [letters] * len(settings["reward_weights"])
    with pytest.raises(ValueError, match=r"utility=oracle takes one function, .* of the weight 1"):
        make_trainer(tmp_path, functions, RESPONSES, settings=settings, utility="oracle")


def test_functions_of_one_name_are_told_apart(tmp_path):
    functions = [lambda completions, n=n, **_: [n] * len(completions) for n in (1.0, 10.0)]
    weights = {"<lambda>": 1.0, "<lambda>_2": 0.5}
    trainer = make_trainer(tmp_path, functions, RESPONSES, reward_weights=weights)
    scored_batch(trainer)
    assert trainer.records[0].rewards == [6.0, 6.0]


def test_a_utility_of_texts(tmp_path):
    trainer = make_trainer(
        tmp_path,
        lengths,
        RESPONSES,
        utility="best_less_redundancy",
        utility_options={"similarity": lambda a, b: float(a[0] == b[0])},
    )
    batch = scored_batch(trainer)
    sets = [[2.0, 3.0], [2.0], [], [2.0, 3.0]]
    shares = [all_orders(max, rewards) if rewards else [] for rewards in sets]
    check(token_advantages(trainer, batch), expected([3.0, 2.0, 0.0, 3.0], shares))


def test_several_functions_have_curves_and_are_normalised(tmp_path):
    def hundreds(completions, **columns):
        return [100.0 * (text == "ab") for text in completions]

    trainer = make_trainer(
        tmp_path,
        [lengths, hundreds],
        RESPONSES,
        reward_weights={"lengths": 0.5, "hundreds": 2.0},
        normalize_rewards="group",
    )
    batch = scored_batch(trainer)
    sets = [[(2, 100), (3, 0)], [(2, 100)], [], [(2, 100), (3, 0)]]
    pairs = [pair for each in sets for pair in each]
    spreads = [statistics.stdev(pair[place] for pair in pairs) for place in (0, 1)]
    rewards = [[0.5 * a / spreads[0] + 2 * b / spreads[1] for a, b in each] for each in sets]
    shares = [all_orders(max, each) if each else [] for each in rewards]
    check(
        token_advantages(trainer, batch),
        expected([max(each, default=0) for each in rewards], shares),
    )
    # The score that TRL logs is not scaled.
    assert [record.rewards for record in trainer.records][1] == [201.0]
    curves = {
        name: value for name, value in trainer._metrics["train"].items() if "/reward/" in name
    }
    assert curves == {
        "shape_grpo/reward/hundreds/best": [100.0],
        "shape_grpo/reward/hundreds/mean": [60.0],
        "shape_grpo/reward/lengths/best": [pytest.approx(8 / 3)],
        "shape_grpo/reward/lengths/mean": [pytest.approx(2.4)],
    }


def of_lists(solution_strs, **columns):
    return [1.0 for _ in solution_strs]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (letters, "takes solutions.* write utility=oracle"),
        (of_lists, "takes solution_strs, which verl passes.*per_response=true"),
    ],
)
def test_a_function_of_verls_arguments_is_refused_at_once(tmp_path, function, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, function, RESPONSES)
