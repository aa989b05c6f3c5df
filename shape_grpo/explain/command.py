"""The command ``explain``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from shape_grpo.config import ShapeGRPOConfig
    from shape_grpo.explain.credited import CreditedResponse

DESCRIPTION = """\
Show the credit of each candidate.

With rewards, of one set of candidates:

    python -m shape_grpo explain 5 4 3 method=praise
    python -m shape_grpo explain 5 4 3 allocator=beta_shapley allocator_options.alpha=3 \\
        allocator_options.beta=1
    python -m shape_grpo explain 1,1,0 0,1,1 utility=coverage

With responses to one prompt: their candidates, the rule that applies to each, its reward by your
verl reward function, and the advantage of its tokens:

    python -m shape_grpo explain --response a.txt --response b.txt --reward my_reward.py \\
        --row train.parquet:3 method=praise --html credit.html

Settings are keys of algorithm.shape_grpo, as key=value; they override those of --config and of
method=NAME. Without a method the defaults hold, which are those of the paper (shape_grpo).
--extensions names files with allocators, advantages, utilities or formats of your own."""
# Formulas that need no more of the other responses than their rewards.
_NEED_SCORES_ALONE = ("reweight", "reweight_positive", "normalize")


def command() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
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
        help="a candidate's reward, as 5, or 1,0,1 for a utility of vectors; or a setting, as "
        "method=praise",
    )
    add("--texts", nargs="+", metavar="TEXT", help="the candidates that the rewards are of")
    add(
        "--response",
        type=Path,
        action="append",
        metavar="FILE",
        help="a response: text, a JSON list of chat messages (those of the role assistant are the "
        "policy's turns), or with --tokenizer a JSON list of token ids; several are of one group",
    )
    add(
        "--prompt",
        type=Path,
        metavar="FILE",
        help="the rendered prompt, or its end, as text: chat templates may open a thought there; "
        "with --tokenizer and --row it is rendered from the row",
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
        help="YAML of a training, as RUN/hydra/.hydra/config.yaml; of several the last wins",
    )
    add(
        "--extensions",
        action="append",
        default=[],
        metavar="FILE",
        help="a file, or a module, with an allocator, advantage, utility or format of your own",
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
    """Run the command.

    Exits with 2 after a mistake in the arguments, and with 1 where rewards fail.
    """
    # Arguments after an option may still be rewards or settings.
    parser = command()
    options = parser.parse_intermixed_args(arguments)
    # torch, which takes seconds to import, is not needed for --help.
    from shape_grpo.explain.settings import read_options, read_settings

    flags = [value for value in options.values if "=" in value]
    rewards = [value for value in options.values if "=" not in value]
    if options.reward:
        path, _, name = options.reward.partition(".py:")
        where = "reward.custom_reward_function"
        flags += [f"{where}.path={path}.py", f"{where}.name={name}"] if name else []
        flags += [] if name else [f"{where}.path={options.reward}"]
    if options.extensions:
        flags.append(f"extensions={json.dumps(options.extensions)}")
    failure = None
    try:
        settings = read_settings(options.config, flags)
        if options.response:
            if rewards or options.texts:
                raise ValueError("give rewards, or responses with --reward; not both")
            failure = _explain_responses(options, settings, read_options(settings))
        elif rewards:
            _explain_rewards(rewards, options.texts, read_options(settings))
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


def _explain_rewards(rewards: list[str], texts: list[str] | None, config: ShapeGRPOConfig) -> None:
    """Print the credit of one set."""
    from shape_grpo.explain.one_set import explain_set
    from shape_grpo.rewards import failure_in_one_line

    try:
        explain_set([_read_reward(reward, config) for reward in rewards], texts, config)
    except ValueError:
        raise
    except Exception as error:
        line = failure_in_one_line(error, config.method.allocator.allocate)
        raise ValueError(f"allocator {config.allocator}: {line}") from error


def _read_reward(written: str, config: ShapeGRPOConfig) -> float | list[float]:
    try:
        numbers = [float(number) for number in written.split(",")]
    except ValueError:
        raise ValueError(f"{written!r} is no reward, and no key=value") from None
    if config.method.utility.takes_vectors:
        return numbers
    if len(numbers) > 1:
        raise ValueError(
            f"{written} is a list, and utility={config.utility} takes one number per candidate; "
            "utility=best_per_component and utility=coverage take lists"
        )
    return numbers[0]


def _explain_responses(
    options: argparse.Namespace, settings: DictConfig, config: ShapeGRPOConfig
) -> str | None:
    """Print the credit of responses; return what failed of their rewards, if anything did."""
    from rich.console import Console

    from shape_grpo.explain.files import load_tokenizer, read_parts, read_prompt, read_row_at
    from shape_grpo.explain.reading import read_response
    from shape_grpo.explain.responses import NO_ROW, credit_group, score_responses
    from shape_grpo.explain.settings import load_function
    from shape_grpo.explain.terminal import show, write_html
    from shape_grpo.rewards import RewardFunction, check_reward_function, reward_kwargs

    if settings.reward.reward_model.enable:
        raise ValueError("the reward function asks verl's reward model, which only a run starts")
    if not settings.reward.custom_reward_function.path and not options.row:
        raise ValueError("--reward FILE is missing: the reward function")
    others = _read_numbers(options.group_rewards or "")
    tokenizer = load_tokenizer(options.tokenizer) if options.tokenizer else None
    row = read_row_at(options.row) if options.row else NO_ROW
    prompt = read_prompt(options.prompt, row, tokenizer, settings)
    parsed = [
        read_response(
            str(file),
            read_parts(file, tokenizer),
            config,
            tokenizer,
            cut=options.cut,
            prompt=prompt,
        )
        for file in options.response
    ]
    check_reward_function(settings)
    function = RewardFunction(
        load_function(settings), config, reward_kwargs(settings), log_failures=False
    )
    parsed, records, failures = score_responses(parsed, function, row)
    responses = [response.uncredited() for response in parsed]
    asked = sum(record.num_asked for record in records)
    if not asked or len(failures) < asked:
        group = credit_group(responses, records, others, config)
        notes = _notes(options, responses, config, prompt)
        show(Console(), group, config, notes)
        if options.html:
            write_html(options.html, group, config, notes)
    if not failures:
        return None
    text, failure = failures[0]
    return (
        f"the reward function failed for {len(failures)} of {asked} candidates, first for "
        f"{text[:60]!r}: {failure.summary.rstrip('.')}. In a run each such candidate leaves its "
        "set."
    )


def _read_numbers(written: str) -> list[float]:
    try:
        return [float(number) for number in written.split(",") if number.strip()]
    except ValueError:
        raise ValueError(f"--group-rewards {written}: write numbers, as 3,4.5") from None


def _notes(
    options: argparse.Namespace,
    responses: list[CreditedResponse],
    config: ShapeGRPOConfig,
    prompt: str,
) -> list[str]:
    """Return what the reader must know of these numbers."""
    notes = []
    if len(responses) == 1 and not options.group_rewards:
        notes.append(
            "A group of one has no advantage: there is nothing to compare the response with. Give "
            "the group's others with --response, or their set rewards with --group-rewards. Shown "
            "is what its tokens get where GRPO gives it the advantage 1 or -1."
        )
    if options.group_rewards and config.advantage not in _NEED_SCORES_ALONE:
        notes.append(
            f"advantage={config.advantage} may compare candidates of the whole group; those of "
            "--group-rewards are not known, so a training's numbers may differ."
        )
    if options.tokenizer is None and config.length_correction:
        notes.append("length_correction is by characters here; give --tokenizer for tokens.")
    if not options.row:
        notes.append(
            "Without --row the reward function was told data_source='' and ground_truth=''."
        )
    if not any(response.candidates for response in responses):
        notes.append(
            f"Nothing is written as a candidate: format={config.format}, "
            f"thoughts={config.thoughts}."
        )
        thoughts = config.known_thoughts
        opened = thoughts.open_thought(thoughts.turn_start(prompt))
        if opened:
            notes.append(
                f"The prompt opens a thought ({opened.open}): until {opened.close} all is thought."
            )
    return notes
