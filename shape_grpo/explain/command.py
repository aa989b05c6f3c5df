"""The command ``explain``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

DESCRIPTION = """\
Who gets which credit for what.

With rewards, the credit of one set of candidates:

    python -m shape_grpo explain 5 4 3 allocator=beta_shapley allocator_options.alpha=3 \\
        allocator_options.beta=1 advantage=praise
    python -m shape_grpo explain 1,1,0 0,1,1 utility=coverage

With responses to one prompt, their candidates, what the rules make of each, its reward by your verl
reward function, and the advantage of its tokens:

    python -m shape_grpo explain --response a.txt --response b.txt --reward my_reward.py \\
        --row train.parquet:3 duplicate=floor advantage=praise --html credit.html

Settings are those of algorithm.shape_grpo, as key=value, after a training's own from --config.
Modules with allocators of your own are named in VERL_USE_EXTERNAL_MODULES, as in a training."""
# Where the advantages of a response need no more of the others than their rewards.
_NEED_SCORES_ALONE = ("reweight", "reweight_positive", "normalize")


def command() -> argparse.ArgumentParser:
    """Its options."""
    parser = argparse.ArgumentParser(
        prog="python -m shape_grpo explain",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "values",
        nargs="*",
        metavar="REWARD or KEY=VALUE",
        help="a candidate's reward, as 5, or 1,0,1 for coverage; or a setting",
    )
    add("--texts", nargs="+", metavar="TEXT", help="the candidates that the rewards are of")
    add(
        "--response",
        type=Path,
        action="append",
        metavar="FILE",
        help="a response as text, or with --tokenizer as a JSON list of token ids; several are "
        "of one group",
    )
    add(
        "--reward",
        metavar="FILE",
        help="with compute_score, or FILE:FUNCTION; default: the one that --config names",
    )
    add(
        "--row",
        metavar="FILE:N",
        help="row N (from 0) of a parquet file, for what the reward function is told",
    )
    add(
        "--config",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="YAML of a training, as RUN/hydra/.hydra/config.yaml or a file of config/method; of "
        "several the last wins",
    )
    add("--tokenizer", metavar="PATH", help="of the policy: credit by its tokens, not characters")
    add("--cut", action="store_true", help="the responses ended at their length limit")
    add(
        "--group-rewards",
        metavar="R,R,...",
        help="set rewards of the group's other responses, where these are not at hand",
    )
    add("--html", type=Path, metavar="FILE", help="write the responses and their credit as a page")
    return parser


def main(arguments: list[str]) -> None:
    """Run it.

    Exits with 2 where something is wrong that was written, and with 1 where rewards fail.
    """
    # What comes after an option may still be a reward or a setting.
    parser = command()
    options = parser.parse_intermixed_args(arguments)
    # torch, which takes seconds to import, is not needed for --help.
    from shape_grpo.explain.settings import import_external_modules, read_options, read_settings

    flags = [value for value in options.values if "=" in value]
    rewards = [value for value in options.values if "=" not in value]
    if options.reward:
        path, _, name = options.reward.partition(".py:")
        where = "reward.custom_reward_function"
        flags += [f"{where}.path={path}.py", f"{where}.name={name}"] if name else []
        flags += [] if name else [f"{where}.path={options.reward}"]
    failure = None
    try:
        import_external_modules()
        config = read_settings(options.config, flags)
        if options.response:
            if rewards or options.texts:
                raise ValueError("give rewards, or responses with --reward; not both")
            failure = _explain_responses(options, config, read_options(config))
        elif rewards:
            _explain_rewards(rewards, options.texts, read_options(config))
        else:
            raise ValueError("give rewards, as in `explain 5 4 3`, or --response FILE")
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split())
        if options.reward:
            message = message.replace("reward.custom_reward_function.path=", "--reward ")
        _end(f"{message} (--help: all options)", 2)
    if failure:
        _end(failure, 1)


def _end(message: str, code: int) -> NoReturn:
    print(f"explain: {message}", file=sys.stderr)
    sys.exit(code)


def _explain_rewards(rewards: list[str], texts: list[str] | None, options: Any) -> None:
    """The credit of one set."""
    from shape_grpo.advantage import explain
    from shape_grpo.credit import ALLOCATORS
    from shape_grpo.failures import failure_in_one_line

    try:
        explain(
            [_read_reward(reward, options) for reward in rewards],
            texts,
            utility=options.game,
            allocator=options.allocator,
            allocator_options=options.allocator_options,
            advantage=options.advantage,
        )
    except ValueError:
        raise
    except Exception as error:
        own = ALLOCATORS.find(options.allocator)
        raise ValueError(
            f"allocator {options.allocator}: {failure_in_one_line(error, own)}"
        ) from error


def _read_reward(written: str, options: Any) -> float | list[float]:
    try:
        numbers = [float(number) for number in written.split(",")]
    except ValueError:
        raise ValueError(f"{written!r} is no reward, and no key=value") from None
    if options.game.takes_vectors:
        return numbers
    if len(numbers) > 1:
        raise ValueError(
            f"{written} is a list, and utility={options.utility} takes one number a candidate; "
            "utility=coverage takes lists"
        )
    return numbers[0]


def _explain_responses(options: argparse.Namespace, config: Any, block: Any) -> str | None:
    """The credit of responses; what failed of their rewards, if anything did."""
    from rich.console import Console

    from shape_grpo.explain.display import show, write_html
    from shape_grpo.explain.responses import (
        NO_ROW,
        credit_group,
        read_response,
        score_responses,
    )
    from shape_grpo.verl.reward_calls import reward_function_of_a_run
    from shape_grpo.verl.reward_function import (
        check_reward_function,
        reward_kwargs,
    )

    if config.reward.reward_model.enable:
        raise ValueError("the reward function asks verl's reward model, which only a run starts")
    if not config.reward.custom_reward_function.path and not options.row:
        raise ValueError("--reward FILE is missing: the reward function")
    others = _read_numbers(options.group_rewards or "")
    tokenizer = _load_tokenizer(options.tokenizer) if options.tokenizer else None
    responses = [
        read_response(str(file), _read_content(file, tokenizer), block, tokenizer, cut=options.cut)
        for file in options.response
    ]
    row = _read_row(options.row) if options.row else NO_ROW
    check_reward_function(config)
    function = reward_function_of_a_run(config)
    scored = score_responses(responses, function, reward_kwargs(config), row, block)
    asked = sum(one.record.num_asked for one in scored)
    failures = [failure for one in scored for failure in one.failures]
    if not asked or len(failures) < asked:
        norm_by_std = config.algorithm.norm_adv_by_std_in_grpo
        group = credit_group(scored, others, block, norm_by_std=norm_by_std)
        notes = _notes(options, responses, block)
        show(Console(), group, block, notes)
        if options.html:
            write_html(options.html, group, block, notes)
    if not failures:
        return None
    text, failure = failures[0]
    return (
        f"the reward function failed for {len(failures)} of {asked} candidates, first for "
        f"{text[:60]!r}: {failure.rstrip('.')}. In a run each "
        "such candidate leaves its set."
    )


def _notes(options: argparse.Namespace, responses: list[Any], block: Any) -> list[str]:
    """What the reader must know of these numbers."""
    notes = []
    if len(responses) == 1 and not options.group_rewards:
        notes.append(
            "A group of one has no advantage: there is nothing to compare the response with. Give "
            "the group's others with --response, or their set rewards with --group-rewards. Shown "
            "is what its tokens get where GRPO gives it the advantage 1 or -1."
        )
    if options.group_rewards and block.advantage not in _NEED_SCORES_ALONE:
        notes.append(
            f"advantage={block.advantage} may compare candidates of the whole group; those of "
            "--group-rewards are not known, so a training's numbers may differ."
        )
    if options.tokenizer is None and block.length_correction:
        notes.append("length_correction is by characters here; give --tokenizer for tokens.")
    if not options.row:
        notes.append(
            "Without --row the reward function was told data_source='' and ground_truth=''."
        )
    if not any(response.judged for response in responses):
        notes.append(f"Nothing is written as a candidate: format={block.format}.")
    return notes


def _read_numbers(written: str) -> list[float]:
    try:
        return [float(number) for number in written.split(",") if number.strip()]
    except ValueError:
        raise ValueError(f"--group-rewards {written}: write numbers, as 3,4.5") from None


def _read_row(where: str) -> Mapping[str, Any]:
    from shape_grpo.verl.files import read_row

    path, _, number = where.rpartition(":")
    if not path or not number.isdecimal():
        raise ValueError(f"--row {where}: write FILE:N, as train.parquet:0")
    row = read_row(Path(path).expanduser(), int(number))
    for name in ("data_source", "reward_model"):
        if row.get(name) is None:
            raise ValueError(
                f"--row {where}: it has no {name}, which verl needs; it has: {', '.join(row)}"
            )
    return row


def _read_content(file: Path, tokenizer: Any) -> str | list[int]:
    """A response's text, or its token ids."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"--response {file}: it is no text in UTF-8 ({error})") from None
    try:
        ids = json.loads(text)
    except json.JSONDecodeError:
        return text
    if not isinstance(ids, list) or not ids or not all(type(token) is int for token in ids):
        return text
    if tokenizer is None:
        raise ValueError(f"--response {file} holds token ids: give the policy's --tokenizer")
    if not 0 <= min(ids) <= max(ids) < len(tokenizer):
        raise ValueError(
            f"--response {file}: token ids from {min(ids)} to {max(ids)}, and --tokenizer knows "
            f"those from 0 to {len(tokenizer) - 1}"
        )
    return ids


def _load_tokenizer(path: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"--tokenizer {path}: {reason}") from error
