"""Candidates in responses as models of many families write them.

Each file of `conversations/` is a family: its tokens, rendered prompts, and responses with the
candidates that count. Where an installed package has the family's template, the prompts are
compared with what that renders.
"""

import copy
import importlib.util
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from tokenizers import AddedToken

from shape_grpo.candidates import CandidateRules, find_candidates
from tests.candidates.sample_tokenizers import byte_level_bpe

FAMILIES: dict[str, dict[str, Any]] = {
    path.stem: yaml.safe_load(path.read_text("utf-8"))
    for path in sorted((Path(__file__).parent / "conversations").glob("*.yaml"))
}
DATE = "2025-01-01"  # today, in the prompts that say it

pytestmark = pytest.mark.filterwarnings("error:.*text is not the sum of its tokens:UserWarning")


def variants(family):
    """The values to try for the flags `special` that are not established."""
    return [True, False] if None in FAMILIES[family]["tokens"].values() else [None]


@lru_cache
def base_tokenizer():
    return byte_level_bpe()


@lru_cache
def family_tokenizer(family, unknown):
    """A byte-level tokenizer with the family's tokens; `unknown` stands for flags not known."""
    tokenizer = copy.deepcopy(base_tokenizer())
    for token, special in FAMILIES[family]["tokens"].items():
        special = unknown if special is None else special
        added = AddedToken(token, normalized=False, special=special)
        tokenizer.add_tokens([added], special_tokens=special)
    return tokenizer


FLAG = {None: "", True: "-special", False: "-added"}
TOKENIZERS = [
    pytest.param(family, unknown, id=family + FLAG[unknown])
    for family in FAMILIES
    for unknown in variants(family)
]
PROMPTS = [
    pytest.param(family, conversation, id=f"{family}-{conversation['about']}")
    for family, content in FAMILIES.items()
    if "template" in content
    for conversation in content["conversations"]
]
RESPONSES = [
    pytest.param(
        *tokenizer.values,
        conversation["prompt"],
        response,
        id=f"{tokenizer.id}-{conversation['about']}-{response['about']}",
    )
    for tokenizer in TOKENIZERS
    for conversation in FAMILIES[tokenizer.values[0]]["conversations"]
    for response in conversation["responses"]
]


def encode(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


def decode(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=False)


# --- templates of installed packages ---


def package_file(source):
    """A file of an installed package, whose code is not run."""
    package, _, name = source.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed")
    path = Path(spec.submodule_search_locations[0]) / name
    if not path.is_file():
        pytest.skip(f"this version of {package} has no {name}")
    return path


def load_module(source):
    path = package_file(source)
    spec = importlib.util.spec_from_file_location(f"{path.stem}_alone", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def render_jinja(template, messages, **arguments):
    return base_tokenizer().apply_chat_template(
        messages,
        chat_template=template,
        tokenize=False,
        add_generation_prompt=True,
        strftime_now=lambda _: DATE,
        **arguments,
    )


def render_mistral(version, messages):
    templates = pytest.importorskip("mistral_common.integrations.chat_templates.chat_templates")
    base = pytest.importorskip("mistral_common.tokens.tokenizers.base")
    template = templates.generate_chat_template(
        spm=False,
        tokenizer_version=base.TokenizerVersion(version),
        image_support=False,
        audio_support=False,
        thinking_support=version == "v13",
        default_system_prompt=None,
        plain_thinking_support=version == "v11",
        use_special_token_variables=False,
        model_settings_fields=None,
        reasoning_effort_values=None,
        reasoning_effort_default=None,
    )
    return render_jinja(template, messages)


class Pieces:
    """What Inkling's renderer asks of a tokenizer; a piece of text stands for its ids."""

    def encode_text(self, text):
        return [text]

    def encode_special(self, token):
        return token


def render(template, conversation):
    messages = [{"role": "user", "content": conversation["user"]}]
    if "system" in conversation:
        messages.insert(0, {"role": "system", "content": conversation["system"]})
    arguments = conversation.get("arguments", {})
    source = template["source"]
    if source.startswith("mistral_common "):
        return render_mistral(source.split()[1], messages)
    if source == "vllm/renderers/inkling_encoding.py":
        return "".join(load_module(source).render_inkling_messages(messages, Pieces()))
    if source == "vllm/tokenizers/deepseek_v4_encoding.py":
        return load_module(source).encode_messages(messages, **arguments)
    if "bos_token" in template:
        arguments = {**arguments, "bos_token": template["bos_token"]}
    return render_jinja(package_file(source).read_text("utf-8"), messages, **arguments)


# --- the files ---


def test_every_family_has_what_a_reader_needs():
    assert len(FAMILIES) >= 40
    for family, content in FAMILIES.items():
        assert ("template" in content) != ("written_from" in content), family
        assert content["tokens_from"], family
        for conversation in content["conversations"]:
            assert conversation["user"] in conversation["prompt"], (family, conversation["about"])
            for response in conversation["responses"]:
                assert response["reason"], (family, response["about"])
                # Candidates are in the response in their order, each closed.
                position = 0
                for candidate in response["candidates"]:
                    whole = f"<candidate>{candidate}</candidate>"
                    position = response["text"].index(whole, position) + len(whole)


@pytest.mark.parametrize("family, unknown", TOKENIZERS)
def test_a_token_of_the_family_is_one_id(family, unknown):
    tokenizer = family_tokenizer(family, unknown)
    for token, special in FAMILIES[family]["tokens"].items():
        ids = encode(tokenizer, token)
        assert tokenizer.convert_ids_to_tokens(ids) == [token]
        expected = unknown if special is None else special
        assert tokenizer.added_tokens_decoder[ids[0]].special == expected
        assert tokenizer.decode(ids, skip_special_tokens=True) == ("" if expected else token)


@pytest.mark.parametrize("family, conversation", PROMPTS)
def test_the_prompt_is_what_the_template_renders(family, conversation):
    assert conversation["prompt"] == render(FAMILIES[family]["template"], conversation)


@pytest.mark.parametrize("family, unknown, prompt, response", RESPONSES)
def test_tokens_give_back_the_text(family, unknown, prompt, response):
    tokenizer = family_tokenizer(family, unknown)
    for text in (prompt, response["text"]):
        assert decode(tokenizer, encode(tokenizer, text)) == text


# --- the package ---


@pytest.mark.parametrize("family, unknown, prompt, response", RESPONSES)
def test_candidates_that_count(family, unknown, prompt, response):
    tokenizer = family_tokenizer(family, unknown)
    ids = encode(tokenizer, response["text"])
    found = find_candidates(
        tokenizer,
        ids,
        CandidateRules(),
        cut=response["cut"],
        prompt_ids=encode(tokenizer, prompt),
    )
    assert found.texts == response["candidates"], response["reason"]
    for (start, end), text in zip(found.spans, found.texts, strict=True):
        assert text in decode(tokenizer, ids[start:end])
