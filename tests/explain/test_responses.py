"""``python -m shape_grpo explain --response``: one's own reward function on one's own responses."""

import json
import math
import re
import subprocess
import sys
from io import StringIO

import pandas as pd
import pytest
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from shape_grpo.__main__ import main
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.explain.credited import CreditedCandidate, CreditedResponse, Segment
from shape_grpo.explain.reading import read_response
from shape_grpo.explain.terminal import show

REWARD = """
STARS = {"Alien": 5, "Brazil": 4, "Casablanca": 3, "Dune": 1}

def compute_score(data_source, solution_str, ground_truth, extra_info=None, bonus=0):
    return {"score": STARS[solution_str] + bonus, "acc": 1}

def named(data_source, solution_str, ground_truth, extra_info=None):
    name = solution_str.strip(";")
    return {"score": {"alien": 3, "Alien": 5, "Dune": 1}[name], "identity": name}

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


def test_weights_of_several_rewards_are_settings(capsys, folder):
    (folder / "two.py").write_text(
        "def compute_score(solution_str, **_): return {'a': len(solution_str), 'b': 1}"
    )
    weights = ["reward_weights.a=2", "reward_weights.b=0.5"]
    lines, _ = explained(capsys, "--response=b.txt", "--reward=two.py", *weights)
    assert lines[0] == "b.txt: set reward 20.5"


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


def names(lines):
    """The candidates of the first response, as the table has them."""
    rows = (line.split() for line in lines)
    return [words[1] for words in rows if len(words) > 2 and words[0].isdecimal()]


ONE = ["--response", "c.txt", "--reward", "reward.py"]
OPENS = "The prompt opens a thought (<think>): until </think> all is thought."


def test_a_thought_that_the_prompt_opens_holds_no_candidates(capsys, folder):
    (folder / "prompt.txt").write_text("<|user|>Which?<|assistant|><think>\n")
    (folder / "c.txt").write_text("Perhaps <candidate>Alien</candidate>")
    lines, _ = explained(capsys, *ONE)
    assert names(lines) == ["Alien"] and OPENS not in lines
    lines, output = explained(capsys, *ONE, "--prompt", "prompt.txt")
    assert names(lines) == [] and OPENS in lines
    assert "Nothing is written as a candidate: format=xml, thoughts=auto." in lines
    assert "Perhaps <candidate>Alien</candidate>" in output
    lines, _ = explained(capsys, *ONE, "--prompt", "prompt.txt", "thoughts=none")
    assert names(lines) == ["Alien"] and OPENS not in lines
    (folder / "c.txt").write_text("Perhaps Alien</think><candidate>Dune</candidate>")
    lines, _ = explained(capsys, *ONE, "--prompt", "prompt.txt")
    assert names(lines) == ["Dune"] and OPENS not in lines


def test_with_a_tokenizer_and_a_row_the_prompt_is_rendered(capsys, folder, tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content }}<eos>{% endfor %}"
        "{% if add_generation_prompt and think is not defined %}<think>\n{% endif %}"
    )
    tokenizer.save_pretrained(folder / "policy")
    prompt = [{"role": "user", "content": "Which?"}]
    row = {"data_source": "", "reward_model": {"ground_truth": ""}, "prompt": prompt}
    pd.DataFrame([row]).to_parquet("chat.parquet")
    (folder / "c.txt").write_text("Perhaps <candidate>Alien</candidate>")
    options = [*ONE, "--tokenizer=policy", "--row=chat.parquet:0"]
    lines, _ = explained(capsys, *options)
    assert names(lines) == [] and OPENS in lines
    lines, _ = explained(capsys, *options, "+data.apply_chat_template_kwargs.think=false")
    assert names(lines) == ["Alien"]
    (folder / "prompt.txt").write_text("Which?")
    assert names(explained(capsys, *options, "--prompt=prompt.txt")[0]) == ["Alien"]


MESSAGES = [
    {"role": "assistant", "content": "Or <candidate>Alien</candidate>"},
    {"role": "assistant", "content": None, "tool_calls": [{"name": "search"}]},
    {"role": "tool", "content": "<candidate>Brazil</candidate>"},
    {"role": "assistant", "content": [{"type": "text", "text": "<candidate>Dune</candidate>"}]},
]


@pytest.mark.parametrize("more", [[], ["--tokenizer=policy"]])
def test_chat_messages_are_the_policys_turns_and_its_tools(capsys, folder, tokenizer, more):
    (folder / "c.json").write_text(json.dumps(MESSAGES))
    chat = ["--response", "c.json", "--reward", "reward.py", *more]
    lines, output = explained(capsys, *chat)
    assert names(lines) == ["Dune"]
    assert "Or <candidate>Alien</candidate><candidate>Brazil</candidate><candidate>Dune" in output
    lines, output = explained(capsys, *chat, "turns=all", "allocator=uniform")
    assert names(lines) == ["Alien", "Dune"]
    assert "Or <candidate>Alien +1.00 </candidate><candidate>Brazil</candidate>" in output
    assert "<candidate>Dune +1.00 </candidate>" in output


def test_an_array_of_candidates_is_text(capsys, folder):
    """No messages, and no token ids; an escape is shown as it is written."""
    (folder / "c.txt").write_text('["Alien", "D\\u0075ne"]')
    lines, output = explained(capsys, *ONE, "format=json")
    assert names(lines) == ["Alien", "Dune"]
    assert '["Alien +' in output and '"D\\u0075ne +' in output


def test_tags_and_marks_may_be_special_tokens(capsys, folder, tokenizer):
    special = ["<candidate>", "</candidate>", "<|channel|>", "<|message|>", "<|start|>", "<|end|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.save_pretrained(folder / "policy")
    text = (
        "<|channel|>analysis<|message|><candidate>Alien</candidate><|end|>"
        "<|start|>assistant<|channel|>final<|message|><candidate>Dune</candidate><eos>"
    )
    (folder / "c.txt").write_text(text)
    (folder / "prompt.txt").write_text("<|start|>user<|message|>Which?<|end|><|start|>assistant")
    lines, output = explained(capsys, *ONE, "--tokenizer=policy", "--prompt=prompt.txt")
    assert names(lines) == ["Dune"]
    # Special tokens are shown, but for the one that ends the sequence.
    shown = text.removesuffix("<eos>").replace(">Dune<", ">Dune +1.00 <")
    assert shown in output.replace("\n", "")


def test_what_the_reward_function_calls_the_same_is_a_duplicate(capsys, folder):
    written = (f"<candidate>{name}</candidate>" for name in ("Alien", "alien", "Alien;", "Dune"))
    (folder / "c.txt").write_text("".join(written))
    options = ["--response=c.txt", "--reward=reward.py:named", "allocator=uniform"]
    lines, _ = explained(capsys, *options, "duplicate=drop")
    assert "1 Alien 5 1.667 1 5 +1.000 -1.000" in lines
    assert "2 alien 3 1.667 1 5 +1.000 -1.000" in lines
    assert "3 Alien; duplicate: drop - - - - - -" in lines
    assert "4 Dune 1 1.667 1 4 +1.000 -1.000" in lines


def test_a_format_that_fails_is_one_clear_error(capsys, folder):
    (folder / "own.py").write_text("def find_candidates(answer): return [(5, 2)] if answer else []")
    with pytest.raises(SystemExit, match="2"):
        main(["explain", *BOTH, "format=function", "format_options.path=own.py"])
    said = capsys.readouterr()
    assert "format=function failed on a.txt: ValueError: find_candidates of own.py" in said.err
    assert len(said.err.splitlines()) == 1 and not said.out


def test_text_beside_a_candidate_in_its_token_is_coloured_but_not_underlined(capsys):
    tag, edge, own = (
        Segment("<candidate"),
        Segment(">", 0, edge=True),
        Segment("Dune", 0, ends=True),
    )
    candidate = CreditedCandidate(
        "Dune", 1, 1.0, share=1.0, weight=1.0, advantages={"advantage": 1.0}
    )
    response = CreditedResponse("r", [tag, edge, own], 1.0, [candidate], {"advantage": 0.0})
    console = Console(force_terminal=True, color_system="truecolor", file=StringIO(), width=100)
    show(console, [response], ShapeGRPOConfig(), [])
    styles = dict(
        (text, codes.split(";"))
        for codes, text in re.findall("\x1b\\[([0-9;]+)m(>|Dune)\x1b", console.file.getvalue())
    )
    assert "4" in styles["Dune"] and "4" not in styles[">"]
    assert styles["Dune"][-3:] == styles[">"][-3:]  # of the background


BAD = {
    "raises": ("return extra_info['price']", 1, "for 2 of 2 candidates, .*KeyError: 'price'.*py:2"),
    "returns nothing": ("pass", 1, "returned None for 'Casablanca'; utility max takes finite"),
    "has no score": ("return {'acc': 1}", 1, "without 'score'.*keys: acc.*by reward_weights"),
    "hangs": ("import time; time.sleep(60)", 1, "did not return in reward_timeout=0.2 seconds"),
    "ends the process": ("raise SystemExit", 1, "raised SystemExit"),
}


def test_weights_of_several_rewards_are_options_too(capsys, folder):
    """0.5 * 4 + 2 * 1 for the only candidate of four letters."""
    (folder / "two.py").write_text(
        "def compute_score(data_source, solution_str, ground_truth, extra_info=None):\n"
        "    return {'length': len(solution_str), 'one': 1}\n"
    )
    (folder / "dune.txt").write_text("<candidate>Dune</candidate>")
    weights = ["reward_weights.length=0.5", "reward_weights.one=2"]
    main(["explain", "--response=dune.txt", "--reward=two.py", *weights])
    assert "dune.txt: set reward 4\n" in capsys.readouterr().out


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
    "no such prompt": ([*BOTH, "--prompt=no.txt"], "no.txt"),
    "an earlier key": ([*BOTH, "ignore_thoughts=false"], "write thoughts=none for ignore_thoughts"),
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


@pytest.mark.parametrize("which", ["last", "all"])
def test_what_a_tool_wrote_is_not_trained_on(tokenizer, which):
    first, tool, last = "<candidate>a</candidate>", " tool: <candidate>no</candidate> ", "Sorry."
    parts = [(first, True), (tool, False), (last, True)]
    for given in (None, tokenizer):
        read = read_response("r", parts, ShapeGRPOConfig(turns=which), given, cut=False)
        response = read.uncredited()
        assert response.text == first + tool + last
        assert "".join(each.text for each in response.segments if each.masked) == tool
        lengths = [len(each if given is None else given.encode(each)) for each in (first, last)]
        assert response.length == sum(lengths)
        assert [each.text for each in response.candidates] == (["a"] if which == "all" else [])
