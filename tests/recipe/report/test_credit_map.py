import json

import numpy as np
import pytest

from recipe.shape_grpo.report.credit_map import find_segments, map_step, telling_responses
from shape_grpo.candidates import CandidateRules, find_candidates, parse_candidates, token_spans
from tests.recipe.report.run_folders import GROUP_REWARDS, write_rollouts, write_run

PAPER = "the paper: reweight, Shapley"


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", [0.0])


def edit_rollouts(run, change, step=1):
    path = run / "rollouts" / f"{step}.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for number, line in enumerate(lines):
        change(number, line)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def advantages(response, view):
    return [candidate.advantages[view] for candidate in response.candidates]


def test_advantages_are_those_of_the_methods(run):
    step_map = map_step(write_rollouts(run))
    (group,) = step_map.groups
    scores = np.array([max(rewards) for rewards in GROUP_REWARDS])
    grpo = (scores - scores.mean()) / (scores.std(ddof=1) + 1e-6)
    # Figure 1 of the paper: 5, 4, 3 share 2.5, 1.5, 1.0 of 5, weights 1.5, 0.9, 0.6.
    for response, advantage in zip(group.responses, grpo, strict=True):
        assert response.shared["GRPO"] == pytest.approx(advantage)
        assert advantages(response, "GRPO") == pytest.approx([advantage] * 3)
    first = group.responses[0]
    assert advantages(first, PAPER) == pytest.approx([w * grpo[0] for w in (1.5, 0.9, 0.6)])
    assert advantages(first, "winner takes all") == pytest.approx([3 * grpo[0], 0, 0])
    every = [a for view in step_map.views for r in group.responses for a in advantages(r, view)]
    assert group.scale == pytest.approx(max(map(abs, every)))


def test_the_first_views_are_the_baselines_and_the_paper(run):
    assert map_step(write_rollouts(run)).views[:3] == ["GRPO", "winner takes all", PAPER]


def test_text_is_cut_at_its_candidates(run):
    response = map_step(write_rollouts(run)).groups[0].responses[0]
    assert [(segment.text, segment.candidate) for segment in response.segments] == [
        ("I would watch: <candidate>", None),
        ("film 0", 0),
        ("</candidate> <candidate>", None),
        ("film 1", 1),
        ("</candidate> <candidate>", None),
        ("film 2", 2),
        ("</candidate>", None),
    ]
    assert [candidate.length for candidate in response.candidates] == [1, 2, 3]


def test_candidates_that_the_rules_dropped_are_shared_text(run):
    write_rollouts(run)

    def empty_and_cut(number, line):
        line["output"] = "<candidate> </candidate>" + line["output"] + "<candidate>half a fi"

    edit_rollouts(run, empty_and_cut)
    response = map_step(run).groups[0].responses[0]
    assert not response.note
    assert [segment.text for segment in response.segments if segment.candidate is not None] == [
        "film 0", "film 1", "film 2",
    ]  # fmt: skip
    assert "".join(segment.text for segment in response.segments).endswith("half a fi")


def test_text_that_does_not_fit_its_record_is_shown_without_colour(run):
    write_rollouts(run)
    edit_rollouts(run, lambda number, line: line.update(output="no candidates at all"))
    response = map_step(run).groups[0].responses[0]
    assert response.note == "'film 2' is not found in it: it is not coloured."
    assert [segment.text for segment in response.segments] == ["no candidates at all"]


def test_a_record_of_an_old_version_is_shown_without_colour_and_says_why(run):
    write_rollouts(run)

    def without_texts(number, line):
        record = json.loads(line["shape_grpo"])
        del record["texts"]
        line["shape_grpo"] = json.dumps(record)

    edit_rollouts(run, without_texts)
    response = map_step(run).groups[0].responses[0]
    assert response.note == "The record is of an old version, without the candidates' texts."
    assert len(response.segments) == 1 and response.text.startswith("I would watch: <candidate>")
    assert [candidate.reward for candidate in response.candidates] == [5.0, 4.0, 3.0]


def test_what_a_thought_says_of_a_candidate_is_not_coloured(run):
    write_rollouts(run)
    thought = "<think>film 2, or film 0?</think>"
    edit_rollouts(run, lambda n, line: line.update(output=thought + line["output"]))
    response = map_step(run).groups[0].responses[0]
    assert response.segments[0].text == thought + "I would watch: <candidate>"
    assert [s.text for s in response.segments if s.candidate is not None] == [
        "film 0", "film 1", "film 2",
    ]  # fmt: skip


def test_a_candidate_without_a_reward_owns_no_tokens(run):
    write_rollouts(run, rewards=[[5.0, None, 3.0], [1.0, 2.0, 2.0]])
    response = map_step(run).groups[0].responses[0]
    owners = map(response.owner, response.segments)
    assert {owner.text for owner in owners if owner} == {"film 0", "film 2"}
    # 5 and 3: shares 3.5 and 1.5 of 5, weights 1.4 and 0.6.
    shared = response.shared[PAPER]
    assert advantages(response, PAPER) == pytest.approx([1.4 * shared, 0, 0.6 * shared])


def test_groups_are_by_prompt_or_by_verls_uid(run):
    write_rollouts(run, rewards=GROUP_REWARDS * 2, inputs=["a", "b"] * 3)
    assert [len(group.responses) for group in map_step(run).groups] == [3, 3]
    uids = ["x_0_0", "x_1_0", "y_0_0", "y_1_0", "z_0_0", "z_1_0"]
    edit_rollouts(run, lambda number, line: line.update(uid=uids[number]))
    step_map = map_step(run, groups=2)
    assert [len(group.responses) for group in step_map.groups] == [2, 2]
    assert step_map.num_groups == 3


def test_rows_without_a_record_are_no_responses(run):
    write_rollouts(run)
    edit_rollouts(run, lambda n, line: line.update(shape_grpo=None) if n == 1 else None)
    assert len(map_step(run).groups[0].responses) == 2
    edit_rollouts(run, lambda n, line: line.pop("shape_grpo"))
    with pytest.raises(ValueError, match="holds no record of candidates"):
        map_step(run)


def test_lines_end_where_json_lines_do(run):
    write_rollouts(run, text="film\u2028two\x85three")
    path = run / "rollouts/1.jsonl"
    # As verl writes them, and the last one still on its way.
    lines = [json.dumps(json.loads(line), ensure_ascii=False) for line in path.open()]
    path.write_text("\n".join(lines))
    responses = map_step(run).groups[0].responses
    assert len(responses) == len(GROUP_REWARDS) - 1
    assert responses[0].segments[1].text == "film\u2028two\x85three 0"
    path.write_text("\n".join([lines[0][:-5], *lines, ""]))
    with pytest.raises(ValueError, match=r"1\.jsonl, line 1, is not JSON"):
        map_step(run)


def test_a_missing_step_names_those_there_are(run):
    with pytest.raises(FileNotFoundError, match=r"trainer\.rollout_data_dir="):
        map_step(run)
    write_rollouts(run, step=3)
    write_rollouts(run, step=12)
    with pytest.raises(FileNotFoundError, match="no rollouts of step 4; there are steps 3, 12"):
        map_step(run, 4)
    assert map_step(run).step == 12


def test_the_utility_of_the_run_is_used(tmp_path):
    block = {"utility": "sum", "allocator": "shapley", "advantage": "reweight"}
    run = write_run(tmp_path / "sum", [0.0], settings={"shape_grpo": block})
    write_rollouts(run)
    edit_rollouts(run, lambda n, line: line.update(score=sum(GROUP_REWARDS[n])))
    response = map_step(run).groups[0].responses[0]
    # Under the sum every candidate's share is its own reward: weights 3 r / 12.
    expected = [response.shared[PAPER] * r / 4 for r in (5, 4, 3)]
    assert advantages(response, PAPER) == pytest.approx(expected)


def test_advantages_are_normalised_as_in_the_run(tmp_path):
    """Scores 5, 2, 4 by `GROUP_REWARDS`, less their mean, and not divided by anything."""
    run = write_run(tmp_path / "plain", [0.0], settings={"norm_by_std": False})
    scores = np.array([max(rewards) for rewards in GROUP_REWARDS])
    responses = map_step(write_rollouts(run)).groups[0].responses
    found = [response.shared["GRPO"] for response in responses]
    assert found == pytest.approx(scores - scores.mean())


def test_the_telling_responses_are_best_worst_and_most_uneven(run):
    rewards = [[3.0, 3.0], [5.0, 5.0], [4.0, 0.0], [1.0, 1.0]]
    write_rollouts(run, rewards=[[2.0], [2.0], *rewards], inputs=["same"] * 2 + ["differ"] * 4)
    chosen = telling_responses(map_step(run))
    assert chosen.prompt == "differ"
    assert [[c.reward for c in response.candidates] for response in chosen.responses] == [
        [5.0, 5.0], [1.0, 1.0], [4.0, 0.0],
    ]  # fmt: skip


@pytest.fixture
def tokenizer(tmp_path):
    """A byte-level tokenizer with a few merges, saved as a run's settings would name it."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(["I would watch a film candidate"] * 50, vocab_size=300)
    fast = PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer)
    fast.save_pretrained(tmp_path / "tokenizer")
    return fast


@pytest.mark.parametrize("right", [True, False])
def test_tokens_are_shown_where_they_fit_the_record(tmp_path, tokenizer, right):
    run = write_run(tmp_path / "run", [0.0], tokenizer=str(tmp_path / "tokenizer"))
    write_rollouts(run)

    def place(number, line):
        ids = tokenizer(line["output"])["input_ids"]
        spans = token_spans(tokenizer, ids, parse_candidates(line["output"]))
        record = json.loads(line["shape_grpo"])
        record["starts"] = [start for start, _ in spans]
        # As if other tokens had been sampled for the same text.
        record["ends"] = [end + (not right) for _, end in spans]
        line["shape_grpo"] = json.dumps(record)

    edit_rollouts(run, place)
    response = map_step(run).groups[0].responses[0]
    text = "".join(segment.text for segment in response.segments)
    assert text.startswith("I would watch: <candidate>film 0</candidate>")
    of_first = [segment.text for segment in response.segments if segment.candidate == 0]
    assert "film 0" in "".join(of_first)
    assert (len(response.segments) > 7) == right
    assert [segment.ends for segment in response.segments if segment.candidate == 0][-1]


def test_a_response_that_ended_at_once_is_no_text(tokenizer):
    segments, note = find_segments("", [], [], tokenizer)
    assert "".join(segment.text for segment in segments) == note == ""


def segments_of(tokenizer, text, **rules):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = find_candidates(tokenizer, ids, CandidateRules(**rules), cut=False)
    texts = [candidate.written for candidate in found.candidates]
    return find_segments(text, found.spans, texts, tokenizer)


def test_text_beside_a_candidate_in_its_token_is_an_edge(joined):
    text = "<candidate>The Hobbit</candidate> <candidate>Emma</candidate>"
    segments, note = segments_of(joined, text)
    assert note == "" and "".join(segment.text for segment in segments) == text
    owned = [(s.text, s.candidate, s.edge) for s in segments if s.candidate is not None]
    # A token per letter but for those of the fixture.
    assert owned[:3] == [(">", 0, True), ("The", 0, False), (" ", 0, False)]
    assert owned[-2:] == [("Emma", 1, False), ("</", 1, True)]
    for number, name in enumerate(("The Hobbit", "Emma")):
        own = [text for text, candidate, edge in owned if candidate == number and not edge]
        assert "".join(own) == name
    assert [s.text for s in segments if s.ends] == ["t", "</"]


WRITTEN = [
    # rules, the text, the candidate as the reward function gets it, and how it is written
    ({"format": "json"}, '["Tom \\"T\\" \\u00e9\\ud83c\\udfac", "b"]',
     'Tom "T" é🎬', '["Tom \\"T\\" \\u00e9\\ud83c\\udfac'),
    ({"format": "json"}, '["a\\nb\\/c\\\\d"]', "a\nb/c\\d", '["a\\nb\\/c\\\\d'),
    ({"format": "json"}, '["é", "b"]', "é", '["é'),
    ({"format_options": {"unescape": True}},
     "<candidate>Tom &amp; Jerry's &#60;3&#x3E; &eacute;</candidate>",
     "Tom & Jerry's <3> é", ">Tom &amp; Jerry's &#60;3&#x3E; &eacute;"),
    ({}, "<candidate>Tom &amp; Jerry</candidate>", "Tom &amp; Jerry", ">Tom &amp; Jerry"),
    ({"format": "fenced"}, "- it:\n  ```\n  if a:\n    b\n  ```\n", "if a:\n  b",
     "\n  if a:\n    b"),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "text", "candidate", "written"), WRITTEN)
@pytest.mark.parametrize("with_tokens", [True, False])
def test_escaped_text_is_found(joined, rules, text, candidate, written, with_tokens):
    ids = joined(text, add_special_tokens=False)["input_ids"]
    found = find_candidates(joined, ids, CandidateRules(**rules), cut=False)
    assert found.texts[0] == candidate
    # A quotation of it stands before it, which no tokens of the record are.
    text, spans = (text, found.spans) if with_tokens else (written + text, [(0, 1)] * 2)
    texts = [each.written for each in found.candidates]
    tokenizer = joined if with_tokens else None
    segments, note = find_segments(text, spans[: len(texts)], texts, tokenizer)
    assert note == "" and "".join(segment.text for segment in segments) == text
    own = "".join(s.text for s in segments if s.candidate == 0 and not s.edge)
    assert own == written.lstrip('>["\n ')
    if not with_tokens:
        assert segments[0].text.startswith(written)


def test_tokens_that_carry_more_than_the_candidate_are_not_those_that_were_sampled(joined):
    text = "<candidate>Dune</candidate>"
    (first, end), *_ = find_candidates(
        joined, joined(text)["input_ids"], CandidateRules(), cut=False
    ).spans
    for span in ((first - 1, end), (first, end + 1), (first + 1, end), (first, end + 99)):
        segments, note = find_segments(text, [span], ["Dune"], joined)
        assert note == ""
        assert [s.text for s in segments] == ["<candidate>", "Dune", "</candidate>"]


def test_utilities_of_texts_have_the_recorded_shares(tmp_path):
    run = write_run(tmp_path / "run", [0.0], shape_grpo={"utility": "oracle"})
    write_rollouts(run, rewards=[[5.0, 4.0], [1.0, 2.0]])

    def share(number, line):
        shares = [6.0, 2.0] if number == 0 else [1.0, 3.0]
        line["score"] = sum(shares)
        line["shape_grpo"] = json.dumps(
            {**json.loads(line["shape_grpo"]), "shares": shares, "value": line["score"]}
        )

    edit_rollouts(run, share)
    step_map = map_step(run)
    (group,) = step_map.groups
    assert step_map.views == ["GRPO", "reweight, the run's shares", "praise, the run's shares"]
    for response, weights in zip(group.responses, ([1.5, 0.5], [0.5, 1.5]), strict=True):
        grpo = response.shared["GRPO"]
        own = advantages(response, "reweight, the run's shares")
        assert own == pytest.approx([weight * grpo for weight in weights])


def test_normalised_rewards_are_those_of_training(tmp_path):
    settings = {"reward_weights": {"a": 1.0, "b": 1.0}, "normalize_rewards": "group"}
    run = write_run(tmp_path / "run", [0.0], shape_grpo=settings)
    parts = [{"a": [0.0, 2.0], "b": [900.0, 0.0]}, {"a": [1.0, 1.0], "b": [0.0, 300.0]}]
    write_rollouts(run, rewards=[[900.0, 2.0], [1.0, 301.0]])

    def keep_parts(number, line):
        record = {**json.loads(line["shape_grpo"]), "parts": parts[number]}
        line["shape_grpo"] = json.dumps(record)

    edit_rollouts(run, keep_parts)
    spread = {
        name: np.std([x for each in parts for x in each[name]], ddof=1) for name in ("a", "b")
    }
    scores = np.array(
        [max(sum(each[n][k] / spread[n] for n in spread) for k in range(2)) for each in parts]
    )
    grpo = (scores - scores.mean()) / (scores.std(ddof=1) + 1e-6)
    responses = map_step(run).groups[0].responses
    assert [r.shared["GRPO"] for r in responses] == pytest.approx(grpo)
    # Unscaled, the other candidate would be the best.
    winner = advantages(responses[0], "winner takes all")
    assert winner == pytest.approx([0.0, 2 * grpo[0]], rel=1e-5)
