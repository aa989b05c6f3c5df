"""Overrides from any text; the oracle is Hydra, which composes them back."""

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from recipe.shape_grpo.common.overrides import is_override, key_of, override

TEXTS = [
    "/tmp/mein Ordner ü/run",  # a space and an umlaut
    "/tmp/日本/run",
    '/tmp/it\'s/"here"',
    "/tmp/a=b,c",
    "/tmp/{a}[b](c)",
    "/tmp/$HOME/%d",
    "/tmp/${oc.env:HOME}",
    r"/tmp/\${a}",
    "C:\\data\\",
    r"\'",
    "#1: a & b; c | d",
    " ",
    "",
    # Text that Hydra would read as something else.
    *("12", "1e3", "null", "true", "nan", "1_000", "-inf"),
    *("1/2", "outputs/netflix-k5", "./a_b/c.parquet", "a-b"),
]


@pytest.fixture(scope="module")
def composed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("config")
    (folder / "small.yaml").write_text("a: {b: x}\nc: ${a.b}\n")

    def compose_back(*overrides):
        with initialize_config_dir(str(folder), version_base=None):
            return compose("small", overrides=list(overrides))

    return compose_back


@pytest.mark.parametrize("text", TEXTS)
def test_hydra_reads_the_text_that_was_given(composed, text):
    config = composed(override("a.b", text), override("+a.d", text))
    assert (config.a.b, config.a.d, config.c) == (text, text, text)


def test_any_text_comes_back(composed):
    letters = st.sampled_from("a1 '\"\\${}[]()=,:/.ü#~+*?%")
    any_letters = st.characters(exclude_categories=["Cs", "Cc"])

    @settings(deadline=None)
    @given(st.text(letters, max_size=12) | st.text(any_letters, max_size=12))
    def comes_back(text):
        assume(text != "???")  # OmegaConf's missing value
        assert composed(override("a.b", text)).a.b == text

    comes_back()


def test_plain_paths_stay_readable():
    assert override("dataset.folder", "outputs/netflix-k5") == "dataset.folder=outputs/netflix-k5"


@pytest.mark.parametrize("text", ["a.b=1", "+a.b=x=y", "++a.b=", "~a.b"])
def test_the_key_of_an_override(text):
    assert key_of(text) == "a.b"


@pytest.mark.parametrize("text", ["a=b", "a.b=c", "+a=b", "~a", "++a.b=", "+task"])
def test_words_that_can_only_be_overrides(text):
    assert is_override(text)


@pytest.mark.parametrize(
    "text", ["praise", "out/run", "out/lr=3", "./a=b", "/tmp/a=b", "ü/a=b", "."]
)
def test_words_that_may_be_folders(text):
    assert not is_override(text)
