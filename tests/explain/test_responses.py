"""``python -m shape_grpo explain --response``: one's own reward function on one's own responses."""

import json
import math
import re
import subprocess
import sys

import pandas as pd
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from shape_grpo.__main__ import main

REWARD = """
STARS = {"Alien": 5, "Brazil": 4, "Casablanca": 3, "Dune": 1}

def compute_score(data_source, solution_str, ground_truth, extra_info=None, bonus=0):
    return {"score": STARS[solution_str] + bonus, "acc": 1}

async def told(data_source, solution_str, ground_truth, extra_info=None):
    wanted = {"index": 1, "num_turns": 2, "rollout_reward_scores": {}, "num_candidates": 2}
    wanted["candidate_index"] = ["Casablanca", "Dune"].index(solution_str)
    return float(extra_info == wanted and (data_source, ground_truth) == ("films", "Ann"))
"""
FIRST = (
    "I suggest <candidate>Alien</candidate>, <candidate>Brazil</candidate>, "
    "<candidate> ALIEN</candidate>, <candidate></candidate>, <candidate>Dune"
)
SECOND = "<candidate>Casablanca</candidate><candidate>Dune</candidate>"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "reward.py").write_text(REWARD)
    (tmp_path / "a.txt").write_text(FIRST)
    (tmp_path / "b.txt").write_text(SECOND)
    rows = [
        {
            "data_source": "films",
            "reward_model": {"ground_truth": viewer},
            "extra_info": {"index": index},
        }
        for index, viewer in enumerate(["Bob", "Ann"])
    ]
    pd.DataFrame(rows).to_parquet("train.parquet")
    return tmp_path


def explained(capsys, *arguments):
    """What it prints: its lines, of single spaces, and all of it."""
    main(["explain", *arguments])
    output = capsys.readouterr().out
    return [" ".join(line.split()) for line in output.splitlines()], output


BOTH = ["--response", "a.txt", "--response", "b.txt", "--reward", "reward.py"]
HALF = math.sqrt(0.5)
"""|A| of two responses that differ."""


def test_rules_rewards_shares_weights_and_advantages_of_a_group(capsys):
    """5, 4, 0 and 3, 1 by hand; ``ALIEN`` repeats and gets the floor."""
    lines, output = explained(capsys, *BOTH, "duplicate=floor")
    assert "1 Alien 5 3 1.8 5 +1.273" in lines
    assert "2 Brazil 4 2 1.2 6 +0.849" in lines
    assert "3 ALIEN duplicate: floor 0 0 0 5 +0.000" in lines
    assert "4 empty: drop - - - - -" in lines
    assert "5 Dune truncated: drop - - - - -" in lines
    assert f"other text {len(FIRST) - 16} {HALF:+.3f}" in lines
    assert f"1 Casablanca 3 2.5 1.67 10 {-HALF * 5 / 3:+.3f}" in lines
    assert "<candidate>Alien +1.27 </candidate>" in output
    assert "a.txt: set reward 5\n" in output and "b.txt: set reward 3\n" in output
    assert "data_source='' and ground_truth=''" in output


def test_the_reward_function_is_told_what_a_training_tells_it(capsys):
    lines, _ = explained(
        capsys, "--response=b.txt", "--reward=reward.py:told", "--row=train.parquet:1"
    )
    assert [line.split()[2] for line in lines[2:4]] == ["1", "1"]


def test_a_group_of_one_has_no_advantage_and_rewards_of_others_give_it_one(capsys):
    one = ["--response", "b.txt", "--reward", "reward.py"]
    lines, output = explained(capsys, *one)
    assert "A group of one has no advantage" in output
    assert "1 Casablanca 3 2.5 1.67 10 +1.667 -1.667" in lines
    lines, output = explained(capsys, *one, "--group-rewards", "5")
    assert "A group of one" not in output
    assert f"1 Casablanca 3 2.5 1.67 10 {-HALF * 5 / 3:+.3f}" in lines
    assert "may differ" not in output
    assert "may differ" in explained(capsys, *one, "--group-rewards=5", "advantage=praise")[1]


def test_settings_are_those_of_a_training(capsys, folder):
    (folder / "run.yaml").write_text(
        "reward: {custom_reward_function: {path: reward.py, reward_kwargs: {bonus: 1}}}\n"
        "algorithm: {adv_estimator: shape_grpo, shape_grpo: {allocator: winner_takes_all}}\n"
        "data: {train_batch_size: 8}\n"
    )
    one = ["--response", "b.txt", "--config", "run.yaml", "--reward", "reward.py"]
    lines, _ = explained(capsys, *one)
    assert "1 Casablanca 4 4 2 10 +2.000 -2.000" in lines
    lines, _ = explained(
        capsys, *one, "reward.custom_reward_function.reward_kwargs.bonus=2", "allocator=uniform"
    )
    assert "1 Casablanca 5 2.5 1 10 +1.000 -1.000" in lines


@pytest.fixture
def tokenizer(folder):
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<eos>"], initial_alphabet=alphabet
    )
    bpe.train_from_iterator(["<candidate>Dune</candidate>"], trainer)
    whole = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<eos>")
    whole.save_pretrained(folder / "policy")
    return whole


def test_token_ids_and_text_give_tokens(capsys, folder, tokenizer):
    ids = tokenizer("<candidate>Dune</candidate><eos>")["input_ids"]
    (folder / "c.json").write_text(json.dumps(ids))
    options = ["--response", "c.json", "--reward", "reward.py", "--tokenizer", "policy"]
    lines, output = explained(capsys, *options)
    (own,) = (int(line.split()[5]) for line in lines if line.startswith("1 Dune "))
    (others,) = (int(line.split()[2]) for line in lines if line.startswith("other text "))
    assert own + others == len(ids) and 1 <= own <= 4
    assert "tokens" in output and "chars" not in output
    options[1] = "b.txt"
    assert "tokens" in explained(capsys, *options)[1]


def test_the_page_holds_the_text_and_its_colours_and_runs_nothing(capsys, folder):
    (folder / "a.txt").write_text("<script>x</script> <candidate>Alien</candidate>\x1b[2J")
    _, output = explained(capsys, *BOTH, "--html", "credit.html")
    page = (folder / "credit.html").read_text()
    assert "\x1b" not in output and "\x1b" not in page and "␛[2J" in output
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "background-color: #59a3cd" in page and "+0.71" in page


BAD = {
    "raises": ("return extra_info['price']", 1, "for 2 of 2 candidates, .*KeyError: 'price'.*py:2"),
    "returns nothing": ("pass", 1, "returned None for 'Casablanca'; utility max takes finite"),
    "has no score": ("return {'acc': 1}", 1, "a dict without 'score'.*its keys: acc"),
    "hangs": ("import time; time.sleep(60)", 1, "did not return in reward_timeout=0.2 seconds"),
    "ends the process": ("raise SystemExit", 1, "raised SystemExit"),
}


@pytest.mark.parametrize(("code", "exit_code", "says"), BAD.values(), ids=BAD)
def test_a_bad_reward_function_is_one_clear_error(capsys, folder, code, exit_code, says):
    head = "def compute_score(data_source, solution_str, ground_truth, extra_info=None):\n"
    (folder / "bad.py").write_text(f"{head}    {code}\n")
    with pytest.raises(SystemExit) as ended:
        main(["explain", "--response=b.txt", "--reward=bad.py", "reward_timeout=0.2"])
    said = capsys.readouterr()
    assert ended.value.code == exit_code and not said.out
    assert len(said.err.splitlines()) == 1
    assert re.search(says, said.err)


def test_one_candidate_that_fails_leaves_the_others_their_credit(capsys, folder):
    (folder / "a.txt").write_text("<candidate>Alien</candidate><candidate>Zodiac</candidate>")
    with pytest.raises(SystemExit, match="1"):
        main(["explain", "--response=a.txt", "--reward=reward.py"])
    said = capsys.readouterr()
    assert "2 Zodiac failed - - 6 - -" in " ".join(said.out.split())
    assert "for 1 of 2 candidates, first for 'Zodiac': KeyError: 'Zodiac'" in said.err


WRONG = {
    "no reward function": (["--response=a.txt"], "--reward FILE is missing"),
    "no such reward": (
        ["--response=a.txt", "--reward=no.py"],
        "explain: --reward no.py: there is no such file",
    ),
    "no such response": (["--response=no.txt", "--reward=reward.py"], "no.txt"),
    "no such row": ([*BOTH, "--row=train.parquet:2"], "has the rows 0 to 1, and no row 2"),
    "a row without a number": ([*BOTH, "--row=train.parquet"], "write FILE:N"),
    "rewards too": ([*BOTH, "5"], "give rewards, or responses"),
    "words for rewards": ([*BOTH, "--group-rewards=a"], "write numbers, as 3,4.5"),
    "no such tokenizer": ([*BOTH, "--tokenizer=./none"], "--tokenizer ./none: "),
    "ids alone": (["--response=ids.json", "--reward=reward.py"], "give the policy's --tokenizer"),
}


@pytest.mark.parametrize(("arguments", "says"), WRONG.values(), ids=WRONG)
def test_what_is_written_wrong_is_said_in_one_line(capsys, folder, arguments, says):
    (folder / "ids.json").write_text("[1, 2]")
    with pytest.raises(SystemExit, match="2"):
        main(["explain", *arguments])
    said = capsys.readouterr()
    assert says in said.err and len(said.err.splitlines()) == 1 and not said.out


def test_neither_verl_nor_ray_is_imported(folder):
    program = (
        "import sys; from shape_grpo.__main__ import main\n"
        "main(['explain', '--response=b.txt', '--reward=reward.py', '--row=train.parquet:0'])\n"
        "print({'verl', 'ray', 'transformers'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "set()"
