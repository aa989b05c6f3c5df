"""What the dry run says of a run's data, with a tokenizer that is made here."""

import copy
import re
import warnings

import pandas as pd
import pytest
from numpy.random import default_rng
from transformers import AutoTokenizer

from recipe.shape_grpo.runs import try_prompts
from recipe.shape_grpo.runs.check import main
from recipe.shape_grpo.runs.try_prompts import asked_for_line
from tests.candidates.sample_tokenizers import make_tokenizer

REWARD = "reward.custom_reward_function"
BLOCK = "algorithm.shape_grpo"
VALID = "The configuration is valid.\n"


@pytest.fixture(autouse=True)
def on_this_machine(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


TEMPLATE = (
    "{% for message in messages %}{{ message.content }}\n{% endfor %}"
    "{% if enable_thinking %}<musing>{% endif %}"
)


@pytest.fixture
def dry_run(tmp_path, capsys):
    """dry_run(overrides) -> what it printed, or the error that ended it."""
    tokenizer = copy.deepcopy(make_tokenizer("byte_level_bpe"))
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path / "policy")
    row = {
        "data_source": "slogans",
        "prompt": [{"role": "user", "content": "Three slogans, please."}],
        "reward_model": {"style": "rule", "ground_truth": ""},
    }
    (tmp_path / "reward.py").write_text("def compute_score(**columns):\n    return 1.0\n")

    def run(*overrides, train=row, val=row, rows=64):
        for split, of_split in (("train", train), ("test", val)):
            pd.DataFrame([of_split] * rows).to_parquet(tmp_path / f"{split}.parquet")
        files = [f"data.{split}_files={tmp_path}/{split}.parquet" for split in ("train", "val")]
        files[1] = files[1].replace("val.parquet", "test.parquet")
        own = [f"{REWARD}.path={tmp_path}/reward.py", "dataset.candidates=3"]
        own += [f"actor_rollout_ref.model.path={tmp_path}/policy"]
        try:
            main(["+task=own", "+method=shape_grpo", *files, *own, *overrides])
        except SystemExit as error:
            return str(error)
        return capsys.readouterr().out

    run.row = row
    return run


THINKING = "data.apply_chat_template_kwargs.enable_thinking=true"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([], r"ends with '.*slogans, please\.\\n'\.\n"),
        ([], r"3 of 3 made-up ones were found\.\n.* max_response_length is 2048\.\n"),
        (
            [f"{BLOCK}.format=json", f"+{BLOCK}.format_options.key=text"],
            r"3 of 3 made-up ones",
        ),
        ([THINKING], r"If this opens a thought, write thoughts=\[\"<musing>\", \"</musing>\"\]"),
        ([THINKING, f"{BLOCK}.thoughts=['<musing>','</musing>']"], r"open \(<musing>\)"),
        ([f"{BLOCK}.max_candidates=2"], r"^Format error: .*asks for 3, and max_candidates=2"),
        (["data.max_response_length=40"], r"max_response_length is 40: longer ones may be cut"),
        (
            ["+scale=smoke"],
            r"max_prompt_length=512 \(the task: 1024\), .*response_length=128 \(the task: 2048\)",
        ),
    ],
)
def test_the_dry_run_reads_a_made_up_answer_to_the_first_prompt(dry_run, overrides, says):
    with warnings.catch_warnings(action="ignore"):
        assert re.search(says, dry_run(*overrides))


def asking(row, text, role="user"):
    return {**row, "prompt": [{"role": role, "content": text}]}


def test_the_block_may_be_left_out(dry_run):
    said = dry_run("~algorithm.shape_grpo", "algorithm.adv_estimator=grpo")
    assert "candidates of a response count" in said and said.endswith(VALID)


def test_what_is_valid_is_said_at_the_end_alone(dry_run, tmp_path):
    said = dry_run()
    assert said.endswith(VALID) and "Not checked" not in said
    assert "3 candidates of a response count (dataset.candidates=3)" in said
    (tmp_path / "reward.py").write_text("def compute_score(**columns):\n    return None\n")
    assert dry_run().startswith("Reward error: ")
    assert dry_run(val=asking(dry_run.row, "")).startswith("Data error: data.val_files: ")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.custom_cls.path=mine.py"], "the data and the reward function, as data.custom_cls"),
        (["data.val_files=hdfs://far/test.parquet"], "as the data are not on this machine"),
        (["+ray_kwargs.ray_init.address=auto"], "the files and packages of Ray's machines"),
        (["actor_rollout_ref.model.path=No/Such-8B"], "whether the hub has the model No/Such-8B"),
        (["actor_rollout_ref.model.path=No/Such-8B"], "the lengths of the prompts, and a made-up"),
    ],
)
def test_what_was_not_checked_is_listed(dry_run, monkeypatch, overrides, said):
    monkeypatch.setattr(try_prompts, "_hub_answers", lambda: False)
    printed = dry_run(*overrides)
    assert re.search(f"Not checked: .*{re.escape(said)}", printed) and printed.endswith(VALID)


def test_an_unreachable_hub_is_asked_once_and_shortly(dry_run, monkeypatch):
    """Each of transformers' requests is tried again for more than a minute."""
    asked = []

    class Session:
        def head(self, url, timeout):
            asked.append(timeout)
            raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_session", Session)
    from_pretrained = AutoTokenizer.from_pretrained

    def only_local(*args, local_files_only=False, **kwargs):
        assert local_files_only
        return from_pretrained(*args, local_files_only=True, **kwargs)

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", only_local)
    assert "Not checked: the chat template" in dry_run("actor_rollout_ref.model.path=No/Such-8B")
    assert asked == [5]


LENGTHS = {
    # overrides, what is said; the prompt has 22 tokens
    "all fit": (
        [],
        r"data.train_files: all 64 prompts were measured: (\d+) to \1 tokens; .* 1024\.\n",
    ),
    "none fits": (
        ["data.max_prompt_length=8"],
        r"^Data error: .*64 of 64 are longer, and verl leaves them out: write .*length=\d+ or more",
    ),
    "none fits, and all are cut": (
        ["data.max_prompt_length=8", "data.filter_overlong_prompts=false"],
        r"^Data error: .*verl cuts off their beginning: write data.max_prompt_length=",
    ),
}


@pytest.mark.parametrize(("overrides", "says"), LENGTHS.values(), ids=LENGTHS)
def test_prompts_are_measured_against_their_limit(dry_run, overrides, says):
    assert re.search(says, dry_run(*overrides))


def test_some_long_prompts_are_counted(dry_run, tmp_path):
    rows = [dry_run.row] * 60 + [asking(dry_run.row, "Three slogans. " * 40)] * 40
    for split in ("train", "val"):
        pd.DataFrame(rows).to_parquet(tmp_path / f"{split}.parquet")
    files = [f"data.{split}_files={tmp_path}/{split}.parquet" for split in ("val",)]
    limit = "data.max_prompt_length=64"
    assert "40 of 100 are longer, and verl leaves them out.\n" in dry_run(*files, limit)
    many = [rows[0], rows[-1]] * 300
    pd.DataFrame(many).to_parquet(tmp_path / "val.parquet")
    said = dry_run(*files, limit, "data.filter_overlong_prompts=false")
    assert re.search(r"val_files: 300 of the 600 prompts were measured: ", said)
    # Fewer than a batch are left.
    pd.DataFrame(rows).to_parquet(tmp_path / "many.parquet")
    files.append(f"data.train_files={tmp_path}/many.parquet")
    assert re.search("^Data error: .*40 of 100 are longer, .*write", dry_run(*files, limit))


def test_the_prompts_that_verl_uses_are_counted(dry_run, tmp_path):
    """Of many, those that fit are counted one by one if a sample has few of them."""
    short, long = dry_run.row, asking(dry_run.row, "Three slogans. " * 40)
    files, limit = f"data.train_files={tmp_path}/rows.parquet", "data.max_prompt_length=64"

    def said_of(rows, *overrides):
        pd.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
        return dry_run(files, limit, *overrides)

    few = "^Data error: .*are longer, and verl leaves them out: write"
    assert re.search(few, said_of([short] * 10 + [long] * 590))
    # The sample is of every second row, and has none that fits.
    assert said_of([long, short] * 300).endswith(VALID)
    rows = [long] * 20 + [short] * 90
    small = ["data.train_batch_size=8", "actor_rollout_ref.actor.ppo_mini_batch_size=8"]
    first = [*small, "data.train_max_samples=8"]
    assert re.search(few, said_of(rows, *first, "data.shuffle=false"))
    assert said_of(rows[::-1], *first, "data.shuffle=false").endswith(VALID)
    # With this seed, verl takes one of the long rows, and with that one none.
    taken = {seed: default_rng(seed).choice(110, 8, replace=False) for seed in range(20)}
    with_long = next(seed for seed in taken if (taken[seed] < 20).any())
    without = next(seed for seed in taken if (taken[seed] >= 20).all())
    assert re.search(few, said_of(rows, *first, f"data.seed={with_long}"))
    assert said_of(rows, *first, f"data.seed={without}").endswith(VALID)
    assert said_of(rows, *first, "data.seed=null").endswith(VALID)  # At random.


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (
            "{{ raise_exception('only users') }}",
            r"^Data error: the chat template cannot render .*only",
        ),
        ("{{ bos_token }}Hello", r"^Data error: the chat template leaves the last message out"),
    ],
)
def test_a_template_that_loses_the_prompt_is_refused(dry_run, template, says):
    override = f'actor_rollout_ref.model.custom_chat_template="{template}"'
    assert re.search(says, dry_run(override))


def test_a_template_that_loses_an_earlier_message_or_a_part_is_refused(dry_run):
    """Of roles and contents that the template takes alone, too."""
    system = {"role": "system", "content": "In XML."}
    prompt = [system, {"role": "user", "content": "Three slogans, please."}]
    last = "{% set message = messages[-1] %}{{ message.content }}"
    row = {**dry_run.row, "prompt": prompt}
    said = dry_run(f'actor_rollout_ref.model.custom_chat_template="{last}"', train=row)
    assert "leaves message 1 out, of the role system: 'In XML.'" in said
    parts = [{"type": "text", "text": "Three slogans, please."}]
    row = asking(dry_run.row, parts)
    assert "list of parts as its content" in dry_run(train=row)
    first = "{% for part in messages[0].content %}{{ part.text }}{% break %}{% endfor %}"
    override = f'actor_rollout_ref.model.custom_chat_template="{first}"'
    assert "leaves the last message out" in dry_run(
        override, train=asking(dry_run.row, [*parts, {"type": "text", "text": "In XML."}])
    )


def test_prompts_that_name_another_number_are_told_of(dry_run):
    said = dry_run(train=asking(dry_run.row, "Suggest four good titles."))
    assert (
        "All prompts name 4 titles, and none names 3. If that is the number of candidates" in said
    )
    assert said.endswith(VALID)
    assert "All prompts" not in dry_run(train=asking(dry_run.row, "Suggest three good titles."))


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["Give 4 answers to 2+2.", "Give 4 answers: who?"], "4 answers"),
        (["Write FIVE different short titles."], "5 titles"),
        (["Suggest five (5) films."], "5 films"),
        (["Suggest films, exactly 5."], "5"),
        (["Suggest films (exactly five)"], "5"),
        (["It costs exactly 5.50."], None),
        (["Exactly 5% of exactly 5 words."], None),
        (["Suggest three (3) of 5 films, exactly three."], None),
        (["Give 3 answers, at most 20 words, of 5 lines."], None),
        (["Give answers of 20 words, 5 stars or ten minutes."], None),
        (["Tom has 4 apples.", "Ann has 5 apples."], None),
        (["Give 4 answers.", "Give answers."], None),
        ([], None),
    ],
)
def test_a_number_that_all_prompts_name_is_a_guess(texts, said):
    line = asked_for_line([[{"role": "user", "content": text}] for text in texts], 3)
    assert line is None if said is None else f"name {said}, and none names 3" in line


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([f"{BLOCK}.max_candidates=4"], "4 candidates of a response count (algorithm.shape_grpo"),
        ([f"{BLOCK}.max_candidates=null"], "All candidates of a response count, up to 64"),
    ],
)
def test_how_many_candidates_count_is_said(dry_run, overrides, says):
    assert says in dry_run(*overrides)


def test_json_lines_are_tried_as_parquet_is(dry_run, tmp_path):
    lines = tmp_path / "train.jsonl"
    pd.DataFrame([dry_run.row] * 64).to_json(lines, orient="records", lines=True)
    said = dry_run(f"data.train_files={lines}")
    assert "3 of 3 made-up ones were found" in said
    assert "The reward function gave 1.0" in said and said.endswith(VALID)
