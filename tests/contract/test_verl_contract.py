"""What this package calls and stands in for is there, and is called as it is called here.

The rows are in ``rows.py``; what a row says of data is in ``test_verl_shapes.py``,
``test_verl_reward_shapes.py`` and ``test_cpu_shapes.py``. A failure's name begins with its row.
"""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

from tests.contract.rows import ROWS, SYMBOLS

ROOT = Path(__file__).parents[2]
THEIRS = ("verl", "transfer_queue", "vllm")
MODULE = r"(verl|transfer_queue|vllm)(\.\w+)+"
NAMED = {symbol.name for symbol in SYMBOLS}
OVERRIDDEN = [symbol for symbol in SYMBOLS if symbol.ours]


def find(name):
    module, _, rest = name.partition(":")
    found = import_module(module)
    for part in filter(None, rest.split(".")):
        # Of a class as it is written: a static method stays one.
        found = getattr(found, part)
    return found


def parameters(function):
    """Those of a call, without `self` and what Ray adds to an actor's methods."""
    signature = inspect.signature(function)
    return [
        parameter
        for name, parameter in signature.parameters.items()
        if name not in ("self", "_ray_trace_ctx")
    ]


@pytest.mark.parametrize("symbol", SYMBOLS, ids=str)
def test_it_is_there_and_takes_what_it_is_given(symbol):
    try:
        found = find(symbol.name)
        if symbol.passed is not None:
            count = sum(number for number in symbol.passed if isinstance(number, int))
            names = [name for name in symbol.passed if isinstance(name, str)]
            inspect.Signature(parameters(found)).bind(*range(count), **dict.fromkeys(names))
    except (ImportError, AttributeError, TypeError) as error:
        pytest.fail(f"row {symbol.row} ({ROWS[symbol.row]}): {symbol.name}: {error}")


@pytest.mark.parametrize("symbol", OVERRIDDEN, ids=str)
def test_what_stands_in_its_place_takes_all_that_verl_may_pass(symbol):
    theirs, ours = find(symbol.name), find(symbol.ours)
    if isinstance(theirs, property):
        assert isinstance(ours, property)
        return
    taken = {parameter.name: parameter for parameter in parameters(ours)}
    kinds = {parameter.kind for parameter in taken.values()}
    by_name, by_place = inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL
    for parameter in parameters(theirs):
        if parameter.kind in (by_name, by_place):
            # Theirs takes anything; what is given is what the subclass says (the shapes' tests).
            continue
        assert parameter.name in taken or by_name in kinds, (
            f"row {symbol.row} ({ROWS[symbol.row]}): {symbol.ours} does not take {parameter.name}"
        )
    if by_place not in kinds and by_name not in kinds:
        order = [p.name for p in parameters(theirs) if p.name in taken]
        assert order == [name for name in taken if name in order], f"row {symbol.row}: the order"
    assert inspect.iscoroutinefunction(theirs) <= (
        inspect.iscoroutinefunction(ours) or inspect.isasyncgenfunction(ours)
    ), f"row {symbol.row}: verl awaits {symbol.name}"


def imported_symbols(path):
    """``module:name`` of what a file takes from verl, TransferQueue or vLLM, and uses of it."""
    tree = ast.parse(path.read_text())
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in THEIRS:
            for alias in node.names:
                if inspect.ismodule(getattr(import_module(node.module), alias.name, None)):
                    modules[alias.asname or alias.name] = f"{node.module}:{alias.name}."
                else:
                    yield f"{node.module}:{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in THEIRS:
                    modules[alias.asname or alias.name] = f"{alias.name}:"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in modules:
                yield modules[node.value.id] + node.attr
        # A module that is named as text, as to a hook or to Hydra.
        elif isinstance(node, ast.Constant) and re.fullmatch(MODULE, str(node.value)):
            yield node.value


def is_named(symbol):
    """Whether a row has it, or has something of it: of a class a method, of a module a name."""
    return any(name == symbol or re.match(re.escape(symbol) + r"[.:]", name) for name in NAMED)


SOURCES = [
    path
    for folder in ("shape_grpo", "recipe", "reward_fns")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
# Not verl's module but its entry points.
TEXTS = {"verl.plugins"}


def test_every_symbol_that_is_imported_has_a_row():
    unnamed = {
        f"{path.relative_to(ROOT)} uses {symbol}"
        for path in SOURCES
        for symbol in imported_symbols(path)
        if not is_named(symbol) and symbol not in TEXTS
    }
    assert not unnamed, f"no row of tests/contract/rows.py names these: {sorted(unnamed)}"


def own_classes():
    from verl.trainer.ppo.v1 import get_trainer_cls

    from shape_grpo.verl.checks import TRAINER_MODES
    from shape_grpo.verl.cpu.checkpoint_engine import StoreCheckpointEngine
    from shape_grpo.verl.cpu.vllm_worker import CPUWorkerExtension
    from shape_grpo.verl.cpu.worker import CPUDetachActorWorker, CPUSeparateTrainerMixin
    from shape_grpo.verl.reward_manager import MultiCandidateRewardManager

    yield from map(get_trainer_cls, TRAINER_MODES)
    yield type("OnTheCPU", (CPUSeparateTrainerMixin, get_trainer_cls("separate_async")), {})
    yield from (
        MultiCandidateRewardManager,
        CPUDetachActorWorker,
        CPUWorkerExtension,
        StoreCheckpointEngine,
    )


def test_every_method_of_verl_that_is_overridden_has_a_row():
    named = {symbol.ours for symbol in OVERRIDDEN}
    unnamed = set()
    for cls in own_classes():
        bases = [base for base in cls.__mro__ if base.__module__.startswith("verl.")]
        assert bases, cls
        for ours in (base for base in cls.__mro__ if base.__module__.startswith("shape_grpo.")):
            for name in vars(ours):
                known = any(name in vars(base) for base in bases)
                # Each class has one, and they are no part of an interface.
                if not known or name in ("__module__", "__doc__", "__annotations__", "__dict__"):
                    continue
                # verl sets it on a reward manager's class when the first is made.
                if name == "_class_initialized":
                    continue
                if name == "__weakref__" or name.startswith("_abc_") or "abstract" in name:
                    continue
                if f"{ours.__module__}:{ours.__name__}.{name}" not in named:
                    unnamed.add(f"{ours.__name__}.{name}")
    assert not unnamed, f"no row of tests/contract/rows.py names these: {sorted(unnamed)}"


def test_every_row_is_checked_and_every_check_has_a_row():
    shapes = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*_shapes.py"))
    tests = "".join(re.findall(r"def test_((?:[AB]\d+_)+)", shapes))
    checked = set(re.findall(r"[AB]\d+", tests)) | {symbol.row for symbol in SYMBOLS}
    assert checked == set(ROWS)
