"""Small run folders with known numbers."""

import json

HELD_OUT = "val-core/films/reward/mean@1"
GROUP_REWARDS = [[5.0, 4.0, 3.0], [1.0, 2.0, 2.0], [4.0, 4.0, 1.0]]


def write_run(folder, held_out, training=(), settings=None, **more):
    """A run of task films whose held-out reward is ``held_out`` from step 0 on (None: not
    measured), and whose training reward is ``training`` from step 1 on."""
    folder.mkdir(parents=True)
    steps = max(len(training), len(held_out) - 1)
    lines = []
    for step in range(steps + 1):
        data = {"timing_s/step": 2.0} if step else {}
        if step < len(held_out) and held_out[step] is not None:
            data[HELD_OUT] = held_out[step]
        if 1 <= step <= len(training):
            data["critic/score/mean"] = training[step - 1]
        lines.append(json.dumps({"step": step, "data": data}) + "\n")
    (folder / "metrics.jsonl").write_text("".join(lines))
    facts = {
        "trainer": "trl", "task": "films", "method": "grpo", "candidates": 3, "seed": 1,
        "learning_rate": 0.001, "steps": steps,
    }  # fmt: skip
    (folder / "settings.json").write_text(json.dumps({**facts, **(settings or {}), **more}))
    return folder


def write_runs(root, finals, **more):
    """One run per method and seed; ``finals`` is method to seed to final held-out reward."""
    for method, seeds in finals.items():
        for seed, final in seeds.items():
            write_run(root / f"{method}-{seed}", [0.0, final], method=method, seed=seed, **more)
    return root


def write_rollouts(run, step=1, rewards=GROUP_REWARDS, inputs=None, text="film", texts=None):
    """Write a step's responses as verl does, with the records of their candidates.

    Each candidate is ``text`` with its number, or else those of each response are in ``texts``;
    candidate k of a response has k + 1 tokens.
    """
    (run / "rollouts").mkdir(exist_ok=True)
    lines = []
    for number, of_response in enumerate(rewards):
        starts, ends, at = [], [], 2
        for place in range(len(of_response)):
            starts.append(at)
            ends.append(at + place + 1)
            at += place + 4
        named = texts[number] if texts else [f"{text} {n}" for n in range(len(of_response))]
        written = (f"<candidate>{each}</candidate>" for each in named)
        output = "I would watch: " + " ".join(written)
        repeats = len(named) - len({" ".join(each.casefold().split()) for each in named})
        record = {
            "rewards": of_response,
            "starts": starts,
            "ends": ends,
            "problem_counts": {"duplicate": repeats} if repeats else {},
            "error": None,
            "texts": named,
        }
        lines.append(
            {
                "input": inputs[number] if inputs else "Which film?",
                "output": output,
                "gts": None,
                "score": max((reward for reward in of_response if reward), default=0.0),
                "step": step,
                "shape_grpo": json.dumps(record),
            }
        )
    path = run / "rollouts" / f"{step}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run
