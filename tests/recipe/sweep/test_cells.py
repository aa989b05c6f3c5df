import json
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from recipe.shape_grpo.runs.check import check_config, compose_config
from recipe.shape_grpo.sweep.cells import SPECIFICATIONS, cells, preparations, read_sweep
from shape_grpo.methods import METHODS

SMALL = """
trainer: verl
backend: cpu
tasks: [netflix, ds1000]
methods: [grpo, shape_grpo]
candidates: [3, 5]
learning_rates: [1.0e-3]
method_learning_rates: {grpo: [1.0e-3, 3.0e-4]}
seeds: [0, 1]
overrides: [trainer.test_freq=7]
task_overrides: {ds1000: ["actor_rollout_ref.model.path={data}/judge"]}
prepare: {netflix: ["tasks netflix --output {data} --candidates {candidates}"]}
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return read_sweep(str(path))


def test_cells_are_the_product_of_the_axes(small):
    found = list(cells(small, Path("out")))
    # 2 tasks x 2 K x 2 seeds x (2 learning rates of grpo + 1 of shape_grpo)
    assert len(found) == len({cell.name for cell in found}) == 24
    assert "netflix-k5/grpo/lr-0.0003/seed-1" in {cell.name for cell in found}
    # The first half compares all methods on the first seed.
    assert all(cell.name.endswith("seed-0") for cell in found[:12])


def test_a_cell_is_a_run_of_its_own_with_the_overrides_of_its_task(small):
    by_name = {cell.name: cell for cell in cells(small, Path("out"))}
    cell = by_name["ds1000-k3/shape_grpo/lr-0.001/seed-1"]
    assert cell.command[:4] == (
        *("-m", "recipe.shape_grpo.runs", "shape_grpo"),
        "out/ds1000-k3/shape_grpo/lr-0.001/seed-1",
    )
    assert set(cell.command[4:]) == {
        "+backend=cpu",
        *("+task=ds1000", "dataset.candidates=3", "data.seed=1", "trainer.test_freq=7"),
        "actor_rollout_ref.actor.optim.lr=0.001",
        "actor_rollout_ref.model.path=out/data/ds1000-k3/judge",
    }
    # Its data are prepared by the sweep, so the run is told where.
    netflix = by_name["netflix-k5/grpo/lr-0.001/seed-0"]
    assert "dataset.folder=out/data/netflix-k5" in netflix.command


def test_a_folder_of_any_name_reaches_hydra_and_the_rooms(small, composed):
    """Sweeps of a clone in a folder with a space and an umlaut, and with Hydra's own characters."""
    output = Path("/tmp/mein Ordner ü/{a}, [b]='c'")
    by_name = {cell.name: cell for cell in cells(small, output)}
    netflix = by_name["netflix-k5/grpo/lr-0.001/seed-0"].command
    (folder,) = (word for word in netflix if word.startswith("dataset.folder="))
    assert composed(folder).dataset.folder == str(output / "data/netflix-k5")
    ds1000 = by_name["ds1000-k3/shape_grpo/lr-0.001/seed-1"].command
    (judge,) = (word for word in ds1000 if word.startswith("actor_rollout_ref.model.path="))
    assert composed(judge).actor_rollout_ref.model.path == str(output / "data/ds1000-k3/judge")
    first = next(preparations(small, output))
    assert first[first.index("--output") + 1] == str(output / "data/netflix-k3")


@pytest.fixture
def composed(tmp_path):
    (tmp_path / "small.yaml").write_text(
        "dataset: {folder: a}\nactor_rollout_ref: {model: {path: a}}"
    )

    def compose_back(override):
        with initialize_config_dir(str(tmp_path), version_base=None):
            return compose("small", overrides=[override])

    return compose_back


def test_data_are_prepared_once_for_each_number_of_candidates(small):
    assert list(preparations(small, Path("out"))) == [
        (
            *("-m", "recipe.shape_grpo.tasks", "netflix"),
            *("--output", f"out/data/netflix-k{k}", "--candidates", str(k)),
        )
        for k in (3, 5)
    ]


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_without_the_users_own_files_preparations_ask_for_none(name, monkeypatch):
    for variable in ("RATINGS", "DS1000"):
        monkeypatch.delenv(variable, raising=False)
    words = [word for command in preparations(read_sweep(name), Path("out")) for word in command]
    assert "None" not in words
    monkeypatch.setenv("RATINGS", "my ratings/ü")
    asked = [c for c in preparations(read_sweep(name), Path("out")) if "--ratings" in c]
    assert all(c[c.index("--ratings") + 1] == "my ratings/ü" for c in asked)


def test_a_cell_is_done_while_its_command_and_data_stay_the_same(small, tmp_path):
    cell = next(cells(small, tmp_path))
    run = cell.runs[0]
    run.mkdir(parents=True)
    cell.mark_done(tmp_path)
    assert not cell.is_done(tmp_path), "the run itself is not whole"
    (run / "settings.json").write_text("{}")
    assert cell.is_done(tmp_path)
    cell.data.mkdir(parents=True)
    (cell.data / "settings.json").write_text(json.dumps({"words": "others"}))
    assert not cell.is_done(tmp_path)
    cell.mark_done(tmp_path)
    assert cell.is_done(tmp_path)
    other = read_sweep(str(tmp_path / "small.yaml"), ["overrides=[trainer.test_freq=8]"])
    assert not next(cells(other, tmp_path)).is_done(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("methods=[grpoo]", "methods: 'grpoo' is not one of .*grpo"),
        ("seeds=[one]", "seeds"),
        ("sedes=[1]", "sedes"),
        ("trainer=trlx", "trainer: 'trlx' is not one of"),
        ("backend=tpu", "backend: 'tpu' is not one of"),
    ],
)
def test_a_wrong_specification_is_refused(change, says, tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    with pytest.raises(ValueError, match=says):
        read_sweep(str(path), [change])


def test_a_specification_that_is_nowhere_is_named():
    with pytest.raises(ValueError, match=r"no sweep 'no.such': use one of .*tiny"):
        read_sweep("no.such")


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_every_cell_of_the_specifications_here_is_valid(name, tmp_path):
    """One seed of each task with each K, and of each method: verl accepts what they compose to."""
    sweep = read_sweep(name)
    assert set(sweep.methods) <= set(METHODS)
    sweep.seeds = sweep.seeds[:1]
    each_task = replace(sweep, methods=sweep.methods[:1])
    each_method = replace(sweep, tasks=sweep.tasks[:1], candidates=sweep.candidates[:1])
    some = [*cells(each_task, tmp_path), *cells(each_method, tmp_path)]
    judge = "reward.custom_reward_function.reward_kwargs.base_url=http://localhost:8000/v1"
    for cell in some if sweep.trainer == "verl" else ():
        method, overrides = cell.command[2], [*cell.command[4:]]
        overrides += [judge] if "+task=aclsum" in overrides and sweep.backend == "gpu" else []
        environment = {"VERL_PLATFORM": "cpu"} if sweep.backend == "cpu" else {}
        check_config(compose_config([f"+method={method}", *overrides]), environment)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            ["trainer=catalogue", "overrides=[]", "task_overrides.ds1000=[]"],
            "tasks: netflix is a task of config/task, .*simulated world",
        ),
        (["trainer=trl"], r"overrides: trainer.test_freq=7 is for trainer: verl; .*as --steps=60"),
        (["trainer=trl", "overrides=[]"], r"overrides: actor_rollout_ref.* is for trainer: verl"),
    ],
)
def test_what_is_verls_alone_is_refused_for_other_trainers(tmp_path, changes, says):
    """The simulated world trained under the name of any task."""
    (tmp_path / "small.yaml").write_text(SMALL)
    with pytest.raises(ValueError, match=says):
        read_sweep(str(tmp_path / "small.yaml"), changes)


def test_a_new_task_without_preparation_is_found_where_its_file_says(tmp_path, monkeypatch):
    monkeypatch.setattr("recipe.shape_grpo.sweep.cells.CONFIG", tmp_path)
    (tmp_path / "task").mkdir()
    (tmp_path / "task/lunch.yaml").write_text("dataset: {name: lunch, folder: here/lunch}")
    changes = ["trainer=trl", "overrides=[]", "task_overrides.ds1000=[]", "tasks=[lunch,netflix]"]
    (tmp_path / "small.yaml").write_text(SMALL.replace("prepare: {netflix", "prepare: {other"))
    folders = {
        cell.data for cell in cells(read_sweep(str(tmp_path / "small.yaml"), changes), tmp_path)
    }
    assert folders == {Path("here/lunch"), *(Path(f"outputs/netflix-k{k}") for k in (3, 5))}
