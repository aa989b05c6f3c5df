"""Checkpoints are found, and merged by verl's own merger; incomplete ones are refused."""

import re
import shutil

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipe.shape_grpo.common.files import read_stamp, write_stamp
from recipe.shape_grpo.common.run_folder import BEGUN
from recipe.shape_grpo.evaluate.__main__ import main
from recipe.shape_grpo.evaluate.checkpoint import export, find_actor
from recipe.shape_grpo.evaluate.sampling import SampleSettings, sample_answers, trained_length
from shape_grpo.candidates import CandidateRules

QUIET = Console(quiet=True)


def test_the_newest_whole_step_of_a_run_is_found_from_any_of_its_folders(run):
    checkpoints = run / "checkpoints"
    newest = checkpoints / "global_step_10/actor"
    for source in (run, checkpoints, newest.parent, newest):
        assert find_actor(source) == newest
    assert find_actor(run, step=2) == checkpoints / "global_step_2/actor"
    # Saved after it, and never finished.
    (checkpoints / "global_step_12").mkdir()
    assert find_actor(run) == newest


def test_the_export_loads_with_the_weights_of_its_shards_in_bfloat16(run, policy, tmp_path, capsys):
    shard = run / "checkpoints/global_step_10/actor/model_world_size_1_rank_0.pt"
    untrained = torch.load(shard)
    weights = {name: weight + 1 / 3 for name, weight in untrained.items()}
    torch.save(weights, shard)
    output = tmp_path / "a model"
    main(["export", str(run), f"--output={output}"])
    assert capsys.readouterr().out.startswith("export: ")
    exported = AutoModelForCausalLM.from_pretrained(output, dtype="auto").state_dict()
    assert exported.keys() == weights.keys()
    for name, weight in weights.items():
        assert exported[name].equal(weight.bfloat16()), name
    vocabularies = [AutoTokenizer.from_pretrained(at).get_vocab() for at in (policy, output)]
    assert vocabularies[0] == vocabularies[1]

    written = (output / "model.safetensors").stat().st_mtime_ns
    main(["export", str(run), f"--output={output}"])
    assert "reusing" in capsys.readouterr().out
    assert (output / "model.safetensors").stat().st_mtime_ns == written
    # Of another checkpoint: made anew.
    export(run, output, QUIET, step=2)
    exported = AutoModelForCausalLM.from_pretrained(output, dtype="auto").state_dict()
    name = next(iter(weights))
    assert exported[name].equal(untrained[name].bfloat16())


def test_an_export_is_sampled_as_long_as_its_run_trained(run, tmp_path):
    output = tmp_path / "model"
    export(run, output, QUIET)
    assert trained_length(str(output)) is None, "the run did not record it"
    write_stamp(run, {"max_response_length": 48, "shape_grpo": {"format": "json"}}, BEGUN)
    for source in (run, run / ACTOR):
        export(source, output, QUIET)
        assert trained_length(str(output)) == 48
        assert read_stamp(output)["format"] == "json"
    rows = [[{"role": "user", "content": "Which film?"}]]
    settings = SampleSettings(samples=1)
    ((answer,),) = sample_answers(str(output), rows, settings, CandidateRules())
    tokenizer = AutoTokenizer.from_pretrained(output)
    assert len(tokenizer(answer.text)["input_ids"]) <= 48


def test_a_run_is_no_model(run, task, tmp_path):
    write_stamp(run, {"max_response_length": 48}, BEGUN)
    with pytest.raises(SystemExit, match=f"evaluate export {run} --output MODEL`, and give MODEL"):
        main(["sample", str(run), str(task / "test.parquet"), f"--output={tmp_path / 'a.jsonl'}"])


def test_what_is_no_export_is_not_written_over(run, policy):
    with pytest.raises(ValueError, match="holds other files than an export"):
        export(run, policy, QUIET)


ACTOR = "checkpoints/global_step_10/actor"


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        ("checkpoints/latest_checkpointed_iteration.txt", r"set --step to one of 2, 10"),
        (f"{ACTOR}/fsdp_config.json", "incomplete checkpoint.*the run ended while saving it"),
        (f"{ACTOR}/model_world_size_1_rank_0.pt", "lacks model_world_size_1_rank_0.pt: copy the"),
        (f"{ACTOR}/huggingface/config.json", "incomplete checkpoint without huggingface/config"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused_in_words(run, tmp_path, remove, message):
    (run / remove).unlink()
    with pytest.raises(SystemExit, match=f"evaluate export: .*{message}"):
        main(["export", str(run), f"--output={tmp_path / 'model'}"])
    assert not (tmp_path / "model").exists()


def test_a_run_without_checkpoints_says_what_saves_them(run, tmp_path):
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(FileNotFoundError, match=r"Train again with trainer\.save_freq=N"):
        find_actor(run)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        find_actor(tmp_path / "nowhere")


def test_a_step_that_is_not_there_is_named_with_those_that_are(run):
    with pytest.raises(FileNotFoundError, match=r"no step 3 in .*there are 2, 10"):
        find_actor(run, step=3)
    with pytest.raises(FileNotFoundError, match="is not of step 2"):
        find_actor(run / "checkpoints/global_step_10", step=2)


def test_a_folder_that_has_the_model_already_is_named(run):
    actor = run / ACTOR
    (actor / "model_world_size_1_rank_0.pt").unlink()
    (actor / "huggingface/model.safetensors").touch()
    already = f"{actor / 'huggingface'} is a Hugging Face model already"
    with pytest.raises(FileNotFoundError, match=re.escape(already)):
        export(run, run / "model", QUIET)


def test_what_verls_merger_says_is_passed_on(run, tmp_path):
    (run / ACTOR / "model_world_size_1_rank_0.pt").write_bytes(b"cut off")
    with pytest.raises(RuntimeError, match=r"(?s)verl's merger failed on .*Error"):
        export(run, tmp_path / "model", QUIET)
    assert not (tmp_path / "model/settings.json").exists()
