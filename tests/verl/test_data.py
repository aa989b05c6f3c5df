"""Rows that verl or a reward function could not use are found before Ray starts."""

import inspect
import json
from contextlib import nullcontext

import pandas as pd
import pytest
from datasets import concatenate_datasets, load_dataset
from omegaconf import OmegaConf

from shape_grpo.rewards import read_row
from shape_grpo.verl.agent_loop import verls_run_agent_loop
from shape_grpo.verl.data import TAKEN, wrong_data

CHAT = [{"role": "user", "content": "Suggest 3 slogans."}]
ROW = {
    "data_source": "slogans",
    "prompt": CHAT,
    "reward_model": {"style": "rule", "ground_truth": "fresh"},
    "extra_info": {"shop": "a bakery"},
}
QWEN = (
    "{% for message in messages %}{% if message.role == 'user' or message.role == 'assistant' %}"
    "{{ message.role + message.content }}{% endif %}{% endfor %}"
)
PARTS = "{% for message in messages %}{% for part in message.content %}{{ part.text }}{% endfor %}"
PARTS += "{% endfor %}"
TEMPLATE = "actor_rollout_ref__model__custom_chat_template"


def in_parts(*texts):
    parts = [{"type": "text", "text": text} for text in texts]
    return {"prompt": [{"role": "user", "content": parts}]}


def without(name):
    return {key: value for key, value in ROW.items() if key != name}


def said(role, content):
    return {"prompt": [{"role": role, "content": content}]}


@pytest.fixture
def faults_of(tmp_path):
    """faults_of(training rows, validation rows, suffix, **keys) -> what is wrong with them."""

    def check(train, val=(ROW,), suffix="parquet", **keys):
        paths = {}
        for name, rows in (("train", list(train)), ("val", list(val))):
            paths[name] = str(tmp_path / f"{name}.{suffix}")
            if suffix == "parquet":
                frame = pd.DataFrame(rows or [ROW])
                frame.iloc[: len(rows)].to_parquet(paths[name])
            else:
                lines = "\n".join(map(json.dumps, rows))
                with open(paths[name], "w") as file:
                    file.write(lines if suffix == "jsonl" else json.dumps(rows, indent=1))
        config = OmegaConf.create(
            {
                "data": {
                    "train_files": paths["train"],
                    "val_files": [paths["val"]],
                    "train_batch_size": 1,
                    "prompt_key": "prompt",
                    "custom_cls": {"path": None},
                },
                "reward": {"reward_manager": {"name": "multi_candidate"}},
                "actor_rollout_ref": {"model": {"path": "Qwen/Qwen3-8B"}, "rollout": {}},
            }
        )
        for key, value in keys.items():
            OmegaConf.update(config, key.replace("__", "."), value, force_add=True)
        return list(wrong_data(config))

    return check


WRONG = {
    # a row, or its changes; what the message must say
    "a prompt that is text": (
        {"prompt": "Suggest 3."},
        r'prompt is text, .* data\["prompt"\] = \[\[\{"role": "user", "content": text\}\] for',
    ),
    "a list of messages as text": ({"prompt": json.dumps(CHAT)}, r"json\.loads\(prompt\)"),
    "a list of messages as Python prints it": (
        {"prompt": str(CHAT)},
        r"Write the list itself, ast\.literal_eval\(prompt\)",
    ),
    "one message": ({"prompt": CHAT[0]}, "prompt is one message, and no list"),
    "a number": ({"prompt": 3}, "prompt is int, and no list"),
    "no messages": ({"prompt": []}, "prompt has no messages"),
    "null": ({"prompt": None}, "prompt is null"),
    "texts for messages": ({"prompt": ["Suggest 3."]}, "prompt is a list of str"),
    "messages in another form": (
        {"prompt": [{"from": "human", "value": "Suggest 3."}]},
        r'has: from, value\. Write \{"role": "user"',
    ),
    "a message without content": (said("user", None), "content is NoneType. Write text"),
    "a blank prompt": (said("user", " \n"), "prompt is blank: no message has any text"),
    "a blank question after a system prompt": (
        {"prompt": [{"role": "system", "content": "Be brief."}, *said("user", "")["prompt"]]},
        "prompt is blank",
    ),
    "blank parts": (in_parts("", " "), "prompt is blank"),
    "parts that are texts": (said("user", ["Suggest", "3."]), "a list of texts. Write one text"),
    "the roles of another form": (said("human", "Hi"), "role human, .* call user"),
    "a role in capitals": (said("User", "Hi"), "role User, .* call user"),
    "a misspelt role": (said("asistant", "Hi"), "role asistant, .* call assistant"),
    "a null data source": ({"data_source": None}, "data_source is null. Write the name"),
    "a data source that is a dict": ({"data_source": {"a": 1}}, "data_source is dict. Write"),
    "a data source that is a list": ({"data_source": ["a"]}, "data_source is list. Write"),
    "an agent loop there is none of": (
        {"agent_name": "react"},
        "agent_name is 'react', an agent loop that verl does not have; it has: single_turn_agent",
    ),
    "a null reward model": ({"reward_model": None}, "reward_model is null. Write {"),
    "a reward model that is text": ({"reward_model": "fresh"}, "reward_model is str, and no dict"),
    "a reward model without the truth": (
        {"reward_model": {"style": "rule", "groundtruth": "fresh"}},
        r"no ground_truth; it has: style, groundtruth\. Did you mean groundtruth\?",
    ),
    "further information that is text": ({"extra_info": "{}"}, "extra_info is str. Write a dict"),
}


@pytest.mark.parametrize("suffix", ["parquet", "json", "jsonl"])
@pytest.mark.parametrize(("change", "says"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_wrong_row_is_named(faults_of, change, says, suffix, split):
    rows = {"train": [ROW] * 2, "val": [ROW] * 2, split: [{**ROW, **change}] * 2}
    (fault,) = faults_of(rows["train"], rows["val"], suffix)
    assert fault.startswith(f"data.{split}_files: ") and "every row" in fault
    assert pd.Series([fault]).str.contains(says, regex=True).all(), fault


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("prompt", "has no column prompt; it has: data_source, .* Write one list of chat messages"),
        ("data_source", "has no column data_source; .* Write the name of your task"),
        ("reward_model", 'has no column reward_model; .* Write {"style": "rule"'),
    ],
)
@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_a_missing_column_is_named(faults_of, name, says, suffix):
    (fault,) = faults_of([without(name)], suffix=suffix)
    assert pd.Series([fault]).str.contains(says, regex=True).all(), fault


def test_a_prompt_of_another_name_is_found(faults_of):
    rows = [{**without("prompt"), "messages": CHAT}]
    (fault,) = faults_of(rows)
    assert "Write data.prompt_key=messages." in fault
    assert faults_of(rows, rows, data__prompt_key="messages") == []
    (fault,) = faults_of([{**without("prompt"), "question": "Suggest 3."}])
    assert '[[{"role": "user", "content": text}] for text in data["question"]]' in fault


def test_few_wrong_rows_among_many_are_counted(faults_of):
    rows = [ROW] * 20
    rows[7], rows[11] = {**ROW, "prompt": None}, {**ROW, "prompt": None}
    (fault,) = faults_of(rows)
    assert "train.parquet, row 7 and 1 more: prompt is null" in fault
    mixed = [ROW, {**ROW, "prompt": "Suggest 3."}]  # Which datasets reads as they are.
    (fault,) = faults_of(mixed, suffix="jsonl")
    assert "train.jsonl, row 1: prompt is text" in fault


@pytest.mark.parametrize("suffix", ["parquet", "json", "jsonl"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_no_rows_are_said_to_be_missing(faults_of, suffix, split):
    rows = {"train": [ROW], "val": [ROW], split: []}
    (fault,) = faults_of(rows["train"], rows["val"], suffix)
    assert fault.startswith(f"data.{split}_files") and "has no rows. Prepare the data" in fault
    assert "0 or less" not in fault


def test_a_truth_is_in_all_rows_or_in_none(faults_of):
    null = {**ROW, "reward_model": {"style": "rule", "ground_truth": None}}
    assert faults_of([null, null], [null]) == []
    (fault,) = faults_of([ROW, null, ROW], [ROW])
    assert "ground_truth is null in 1 of 3 rows, and other rows have one" in fault
    (fault,) = faults_of([ROW], [null])
    assert fault.startswith("data.val_files") and "null in 1 of 1 rows" in fault


RIGHT = {
    "as verl has them": {},
    "a system prompt": {"prompt": [{"role": "system", "content": ""}, *CHAT]},
    "a system prompt alone": {"prompt": [{"role": "system", "content": "Suggest 3."}]},
    "an earlier call of a tool": {
        "prompt": [*CHAT, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]
    },
    "an image": {"prompt": [{"role": "user", "content": [{"type": "image", "image": "x.png"}]}]},
    "a role that this package does not know": {"prompt": [{"role": "critic", "content": "Hi"}]},
    "a truth that is a number": {"reward_model": {"ground_truth": 3}},
    "an agent loop of verl's": {"agent_name": "tool_agent"},
    "images, and a policy on the hub": {"images": ["x.png"]},
    "a column of one's own": {"answer": "x", "priority": 1},
    "a data source that is a number": {"data_source": 3},
    "no further information": {"extra_info": None},
}


@pytest.mark.parametrize("suffix", ["parquet", "json", "jsonl"])
@pytest.mark.parametrize("change", RIGHT.values(), ids=RIGHT)
def test_right_rows_pass(faults_of, change, suffix):
    rows = [{**ROW, **change}] * 2
    assert faults_of(rows, rows, suffix) == []


@pytest.mark.parametrize("role", ["critic", "developer", "tool"])
def test_roles_are_those_of_the_chat_template(faults_of, role):
    row = {**ROW, "prompt": [{"role": role, "content": "Suggest 3."}, *CHAT]}
    (fault,) = faults_of([row], **{TEMPLATE: QWEN})
    assert f"chat template leaves out messages of the role {role}. Write their text" in fault
    known = QWEN.replace("'assistant'", f"'{role}'")
    assert faults_of([row], **{TEMPLATE: known}) == []
    any_role = QWEN.replace("{% endif %}", "{% else %}{{ message.content }}{% endif %}")
    assert faults_of([row], **{TEMPLATE: any_role}) == []
    unknown = "{{ raise_exception('not alone') }}"
    assert faults_of([row], **{TEMPLATE: unknown}) == []


@pytest.mark.parametrize(
    "template",
    [
        QWEN,
        QWEN.replace("message.role + message.content", "message.content"),
        QWEN.replace("message.role + message", "message.content is string and message"),
    ],
    ids=["an error", "as Python prints it", "nothing"],
)
def test_parts_are_refused_where_the_chat_template_does_not_read_them(faults_of, template):
    rows = [{**ROW, **in_parts("Suggest 3.")}]
    (fault,) = faults_of(rows, **{TEMPLATE: template})
    assert "a list of parts as its content, which the policy's chat template does not" in fault
    assert faults_of(rows, **{TEMPLATE: PARTS}) == []
    assert faults_of(rows) == []  # The template is on the hub.


def test_what_another_class_or_manager_reads_is_not_checked(faults_of):
    wrong = [{"question": "Suggest 3."}]
    assert faults_of(wrong, wrong, data__custom_cls__path="mine.py") == []
    own = [{"prompt": CHAT}]
    assert faults_of(own, own, reward__reward_manager__name="mine") == []
    assert len(faults_of(own, own, reward__reward_manager__name="naive")) == 4


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.parquet", "text", "cannot be read as parquet"),
        ("a.jsonl", '{"prompt": [}\n', "cannot be read as jsonl"),
        ("a.jsonl", "3\n", "row 1 is no object but 3"),
        ("a.csv", "prompt\nHi\n", "verl reads files that end in .parquet, .json, .jsonl"),
    ],
)
def test_files_of_another_kind_are_refused(faults_of, tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    (fault,) = faults_of([ROW], data__train_files=str(tmp_path / name))
    assert says in fault


def test_batches_of_jsons_rows_are_counted_too(faults_of):
    (fault,) = faults_of([ROW] * 3, suffix="json", data__train_batch_size=4)
    assert "data.train_files has 3 rows: write 3 or less" in fault


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("\ufeff{}\n{}\n", 2),
        ("\n{}\n\n{}\n", 2),
        ('{\n "a": 1\n}', 1),
        ("[{}, {}]", 2),
        ('{\n "a": 1\n}\n{\n "a": 2\n}\n\n', 2),
        ('[\n {"a": "\u2028"},\n {}\n]\n', 2),
        ('{"a": "\u2028"}\n{}', 2),
    ],
)
def test_json_is_read_as_datasets_reads_it(tmp_path, text, count):
    from shape_grpo.rewards.rows import read_rows

    path = tmp_path / "a.json"
    path.write_text(text)
    assert len(list(read_rows(path))) == count
    if "[" not in text and "{}" not in text:  # datasets wants a column.
        read = load_dataset("json", data_files=str(path), cache_dir=tmp_path / "cache")["train"]
        assert read.to_list() == list(read_rows(path))
    assert read_row(path, count - 1) is not None
    with pytest.raises(ValueError, match=f"no row {count}"):
        read_row(path, count)


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
@pytest.mark.parametrize("name", ["output", "session_id", "validate", "responses", "num_turns"])
def test_columns_that_verl_names_itself_are_refused(faults_of, name, suffix):
    (fault,) = faults_of([{**ROW, name: "Alien"}], suffix=suffix)
    assert f"has a column {name}, a name that verl needs. Rename it" in fault


def test_verls_keywords_are_taken():
    """Of the functions that get each column as a keyword, and the fields of their output."""
    from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput
    from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ

    worker = AgentLoopWorkerTQ.__ray_metadata__.modified_class
    keywords = set()
    for function in (verls_run_agent_loop, worker._agent_loop_postprocess):
        keywords |= inspect.signature(function).parameters.keys() - {"kwargs", "_ray_trace_ctx"}
    output = AgentLoopOutput(
        prompt_ids=[1],
        response_ids=[2],
        response_mask=[1],
        response_logprobs=[0.0],
        reward_score=1.0,
        num_turns=2,
        metrics=AgentLoopMetrics(),
    )
    # The column agent_name is meant for verl; the trainer does not read the metrics.
    read = (keywords | output.as_dict().keys()) - {"agent_name", "metrics"}
    assert read <= {*TAKEN}


def test_images_for_a_policy_of_text_are_refused(faults_of, tmp_path):
    rows = [{**ROW, "images": ["x.png"]}]
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy/config.json").write_text("{}")
    policy = {"actor_rollout_ref__model__path": str(tmp_path / "policy")}
    (fault,) = faults_of(rows, **policy)
    assert "the policy reads text only: its folder has no processor" in fault
    assert faults_of([{**ROW, "images": []}], suffix="jsonl", **policy) == []
    (tmp_path / "policy/preprocessor_config.json").write_text("{}")
    assert faults_of(rows, **policy) == []


def test_an_agent_loop_may_be_ones_own(faults_of):
    rows = [{**ROW, "agent_name": "react"}]
    named = {"actor_rollout_ref__rollout__agent__agent_loop_config_path": "loops.yaml"}
    assert faults_of(rows, **named) == []
    assert faults_of(rows, algorithm__shape_grpo__extensions=["loops.py"]) == []


@pytest.mark.parametrize("key", ["train_files", "val_files"])
@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"extra_info": {"shop": 3}}, "shop"),
        ({"reward_model": {"style": "rule", "ground_truth": 3}}, "ground_truth"),
        ({"extra_info": {"price": "3"}}, None),
        ({"extra_info": None}, None),
        ({"answer": "x"}, None),
    ],
)
def test_files_that_verl_cannot_join_are_refused(faults_of, tmp_path, key, suffix, change, column):
    paths = [str(tmp_path / f"{name}.{suffix}") for name in "ab"]
    for path, row in zip(paths, (ROW, {**ROW, **change}), strict=True):
        frame = pd.DataFrame([row] * 2)
        frame.to_parquet(path) if suffix == "parquet" else frame.to_json(
            path, orient="records", lines=True
        )
    files = [
        load_dataset(suffix.rstrip("l"), data_files=path, cache_dir=tmp_path)["train"]
        for path in paths
    ]
    joins = nullcontext() if column is None else pytest.raises(ValueError, match=column)
    with joins:
        concatenate_datasets(files)
    faults = faults_of([ROW], **{f"data__{key}": paths})
    assert len(faults) == (column is not None)
    assert all(f"b.{suffix} have columns of different types" in fault for fault in faults)
    assert all(column in fault for fault in faults)


def test_a_file_may_be_named_with_its_scheme(faults_of, tmp_path):
    (fault,) = faults_of([{**ROW, "prompt": None}])
    assert "prompt is null" in fault
    named = f"file://{tmp_path}/train.parquet"
    (fault,) = faults_of([{**ROW, "prompt": None}], data__train_files=named)
    assert "prompt is null" in fault
