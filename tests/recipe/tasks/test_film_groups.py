"""The task `movielens` with several viewers per prompt, and with one as it was before."""

import itertools
import json
import re
from hashlib import sha256

import numpy as np
import pandas as pd
import pytest

from recipe.shape_grpo.common.files import read_stamp
from recipe.shape_grpo.tasks import load_task
from recipe.shape_grpo.tasks.__main__ import main
from recipe.shape_grpo.tasks.film_ratings import best_of_set_levels
from recipe.shape_grpo.tasks.movielens import TaskSettings, draw_example, group_messages
from reward_fns.films import compute_score
from shape_grpo.candidates import parse_candidates
from tests.recipe.film_task import prepare, write_ratings

SIZE, HISTORY, TEST_VIEWERS = 3, 2, 4
GROUPS = {"viewers_per_prompt": SIZE, "history": HISTORY}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return write_ratings(tmp_path_factory.mktemp("ratings"))


@pytest.fixture(scope="module")
def task(raw, tmp_path_factory):
    return prepare("movielens", tmp_path_factory.mktemp("task"), raw, **GROUPS)


@pytest.fixture(scope="module")
def liked(raw):
    """Viewer to the films that the published file has with 4 stars or more, in whatever order."""
    ratings = pd.read_csv(raw / "ratings.csv").to_numpy().tolist()
    return {
        str(viewer): {
            f"Film{film}"
            for user, film, stars, _ in ratings
            if (user, stars >= 4) == (viewer, True)
        }
        for viewer in range(1, 31)
    }


@pytest.fixture(scope="module")
def stars(task):
    """(viewer, title) to stars."""
    with np.load(task / "ratings.npz") as table:
        viewers, titles = table["viewers"].tolist(), table["titles"].tolist()
        cells = itertools.product(enumerate(viewers), enumerate(titles))
        return {(v, t): float(table["ratings"][i, j]) for (i, v), (j, t) in cells}


def rows_of(folder, *splits):
    return [
        row
        for split in splits or ("train", "test")
        for row in pd.read_parquet(folder / f"{split}.parquet").to_dict("records")
    ]


def group_of(row):
    return row["reward_model"]["ground_truth"].split(",")


@pytest.mark.parametrize(("history", "prompts"), [(3, "4e9cceee67d3cc2c"), (0, "18e5ef63dc56455f")])
def test_prompts_for_one_viewer_and_their_stamp_are_those_from_before_groups(
    raw, tmp_path, history, prompts
):
    folder = prepare("movielens", tmp_path, raw, history=history)
    rows = [pd.read_parquet(folder / f"{split}.parquet") for split in ("train", "test")]
    text = "".join(table.to_json(orient="records") for table in rows)
    assert sha256(text.encode()).hexdigest()[:16] == prompts
    stamp = read_stamp(folder)
    assert "viewers_per_prompt" not in stamp
    assert list(stamp) == [
        *("task", "ratings", "candidates", "history", "films", "test_viewers"),
        *("prompts_per_viewer", "factors", "epochs", "seed", "min_ratings", "prompts"),
    ]
    assert [prompt[0]["content"].split(" Write")[0] for prompt in stamp["prompts"]] == [
        "Suggest 3 films.",
        "A viewer liked Heat; Alien. Suggest 3 other films.",
    ]


def test_a_prompt_names_films_that_each_of_its_viewers_likes(task, liked, stars):
    catalogue = {title for _, title in stars}
    for row in rows_of(task):
        (message,) = row["prompt"]
        text = message["content"]
        assert text.endswith(
            "Suggest 3 other films for them. Write each as <candidate>title</candidate>."
        )
        told = re.findall(r"Viewer (\d) (?:is (new)|liked (.*?))\. ", text)
        assert [number for number, *_ in told] == ["1", "2", "3"]
        named = [films.split("; ") if films else [] for *_, films in told]
        for viewer, films in zip(group_of(row), named, strict=True):
            likes = liked[viewer] & catalogue
            assert set(films) <= likes
            assert len(set(films)) == len(films) == min(HISTORY, len(likes))
        assert list(row["extra_info"]["history"]) == [*itertools.chain(*named)]


def test_a_viewer_of_whom_nothing_is_known_is_new():
    (message,) = group_messages([[("Heat", 4.0), ("Alien", 5.0)], [], [("Brazil", 4.0)]], 2)
    assert message["content"].startswith(
        "Viewer 1 liked Heat; Alien. Viewer 2 is new. Viewer 3 liked Brazil. "
        "Suggest 2 other films for them."
    )


def test_groups_are_of_different_viewers_of_one_split(task):
    train, test = ([group_of(row) for row in rows_of(task, split)] for split in ("train", "test"))
    for group in [*train, *test]:
        assert len(set(group)) == SIZE
    assert not {*itertools.chain(*train)} & {*itertools.chain(*test)}
    firsts = [group[0] for group in test]
    assert len(set(firsts)) == len(firsts) == TEST_VIEWERS
    firsts = [group[0] for group in train]
    assert len(firsts) == 2 * len(set(firsts)) == 2 * (30 - TEST_VIEWERS)
    assert len({frozenset(group) for group in train}) > 40, "each prompt draws its own"


def test_groups_follow_from_the_seed(task, raw, tmp_path):
    def groups(seed):
        folder = prepare("movielens", tmp_path / str(seed), raw, seed=seed, **GROUPS)
        return [(group_of(row), row["prompt"][0]["content"]) for row in rows_of(folder)]

    before = [(group_of(row), row["prompt"][0]["content"]) for row in rows_of(task)]
    assert groups(0) == before and groups(1) != before


def test_rewards_are_the_ratings_of_each_viewer_in_the_order_of_the_prompt(task, stars):
    path = str(task / "ratings.npz")
    titles = list(dict.fromkeys(title for _, title in stars))
    differing = 0
    for row in rows_of(task):
        extra, truth = row["extra_info"], row["reward_model"]["ground_truth"]
        for column, title in enumerate([*titles, "No Film"]):
            arguments = ("movielens", title, truth, extra, path)
            if title == "No Film" or title in extra["history"]:
                each = [0.0] * SIZE
            else:
                each = [stars[viewer, title] for viewer in truth.split(",")]
            expected = {"identity": None if title == "No Film" else column}
            expected |= {f"viewer_{n + 1}": value for n, value in enumerate(each)}
            for exact in (False, True):
                result = compute_score(*arguments, exact=exact)
                assert result == {"score": each, **expected}
                mean = compute_score(*arguments, exact=exact, combine="mean")
                assert mean == {"score": pytest.approx(sum(each) / SIZE), **expected}
                assert type(mean["score"]) is float
            differing += len(set(each)) > 1
    assert differing > 100


@pytest.mark.parametrize("combine", [None, "mean"])
def test_one_viewer_has_a_number_and_nothing_beside_it(task, stars, combine):
    (viewer, title), rating = next(iter(stars.items()))
    result = compute_score("", title, viewer, None, str(task / "ratings.npz"), combine=combine)
    assert result == {"score": rating, "identity": 0}


@pytest.mark.parametrize(
    ("truth", "keywords", "message"),
    [
        ("7,99", {}, "viewer '99' is not in"),
        ("99,7", {"combine": "mean"}, "viewer '99' is not in"),
        ("7,", {}, "viewer '' is not in"),
        ("7,8", {"combine": "max"}, "combine=max: must be mean, or null for a vector"),
    ],
)
def test_wrong_viewers_and_keywords_are_told(task, truth, keywords, message):
    with pytest.raises(ValueError, match=message):
        compute_score("", "Film2", truth, None, str(task / "ratings.npz"), **keywords)


def test_levels_are_means_over_the_viewers_of_groups():
    rng = np.random.default_rng(0)
    titles, viewers = [f"film {n}" for n in range(7)], ["0", "1", "2", "3"]
    ratings = rng.integers(1, 11, (4, 7)) / 2
    prompts = [((0, 1), [titles[2], titles[5]]), ((3, 2), [titles[0]]), ((1, 3), [])]
    rows = [
        {"reward_model": {"ground_truth": f"{a},{b}"}, "extra_info": {"history": history}}
        for (a, b), history in prompts
    ]
    levels = best_of_set_levels(ratings, titles, rows, viewers, 3)
    per_set = [
        [
            np.mean([max(0 if titles[f] in seen else ratings[v, f] for f in films) for v in group])
            for group, seen in prompts
        ]
        for films in itertools.combinations(range(7), 3)
    ]
    assert levels["random"] == pytest.approx(np.mean(per_set))
    assert levels["ideal"] == pytest.approx(np.max(per_set, axis=0).mean())
    best_fixed = np.mean(per_set, axis=1).max()
    assert best_fixed * (1 - 1 / np.e) <= levels["fixed"] <= best_fixed


def test_examples_are_for_as_many_viewers_and_name_no_film_twice(task):
    examples = load_task("movielens").example_answers(task, np.random.default_rng(0))
    lengths = set()
    for messages, answer in examples.draw(300):
        text = messages[0]["content"]
        told = re.findall(r"Viewer \d (?:is (new)|liked (.*?))\. ", text)
        named = [films.split("; ") if films else [] for _, films in told]
        suggested = [candidate.text for candidate in parse_candidates(answer)]
        films = [*itertools.chain(*named), *suggested]
        assert len(told) == SIZE and len(suggested) == 3 and len(set(films)) == len(films)
        lengths.add(tuple(map(len, named)))
    assert lengths == set(itertools.product(range(HISTORY + 1), repeat=SIZE))


def test_examples_for_one_viewer_are_those_from_before_groups():
    titles, rng = [f"Film {letter}" for letter in "abcdefghijkl"], np.random.default_rng(0)
    drawn = [draw_example(titles, 3, 3, rng) for _ in range(20)]
    again = np.random.default_rng(0)
    for messages, answer in drawn:
        shown = int(again.integers(4))
        films = again.choice(titles, shown + 3, replace=False).tolist()
        request = (
            f"A viewer liked {'; '.join(films[:shown])}. Suggest 3 other films."
            if shown
            else "Suggest 3 films."
        )
        assert messages[0]["content"].startswith(request)
        assert [candidate.text for candidate in parse_candidates(answer)] == films[shown:]


def test_the_folder_is_the_one_that_the_configuration_reads(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = ["--films=12", "--min_ratings=5", "--test_viewers=4", "--factors=2", "--epochs=2"]
    main(["movielens", f"--ratings={raw}", *sizes, "--viewers_per_prompt=2"])
    stamp = json.loads((tmp_path / "outputs/movielens_group-k3/settings.json").read_text())
    assert stamp["viewers_per_prompt"] == 2
    assert stamp["prompts"][1][0]["content"].startswith(
        "Viewer 1 liked Heat; Alien. Viewer 2 liked Heat; Alien. Suggest 3 other films for them."
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"viewers_per_prompt": 0}, "viewers_per_prompt is 0: use 1 or more"),
        ({"viewers_per_prompt": 2, "history": 0}, "history is 0: a prompt for 2 viewers needs 1"),
        ({"viewers_per_prompt": 5, "test_viewers": 4}, r"test_viewers is 4: use .* \(5\) or more"),
        ({"viewers_per_prompt": 4, "films": 14}, "films is 14: .* may name 12 .* use 15 or more"),
    ],
)
def test_settings_that_make_no_groups_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TaskSettings(**settings)


def test_groups_need_as_many_viewers_for_training(raw, tmp_path):
    with pytest.raises(ValueError, match=r"30 viewers, too few for .* 28 beside 3 for training"):
        module = load_task("movielens")
        sizes = {"films": 12, "min_ratings": 5, "test_viewers": 28, **GROUPS}
        module.prepare(tmp_path, TaskSettings(ratings=str(raw), **sizes))
