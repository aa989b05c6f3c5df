import html
import json
import re
import subprocess
import sys

import pytest

from recipe.shape_grpo.report.__main__ import main
from shape_grpo.candidates import CandidateRules, find_candidates
from tests.recipe.report.run_folders import write_rollouts, write_run, write_runs

HOSTILE = "</span><script>alert('film')</script><img src=x onerror=alert(1)>"


@pytest.fixture
def runs(tmp_path):
    root = write_runs(tmp_path / "runs", {"grpo": {1: 1.0, 2: 2.0}, "praise": {1: 2.0, 2: 4.0}})
    write_rollouts(root / "praise-1", inputs=[HOSTILE] * 3, text=HOSTILE)
    return root


@pytest.fixture
def page(runs, tmp_path):
    main([str(runs), "--output", str(tmp_path / "out"), "--command", "make <b>it</b>"])
    return (tmp_path / "out/report.html").read_text()


def test_the_page_holds_its_tables_figures_maps_and_runs(page, tmp_path):
    assert "3.000 [-9.706, 15.706]" in page and "+1.500 [-4.853, +7.853]" in page
    assert page.count("<svg") == 2  # curves, and lengths from the rollouts
    assert "praise on films, step 1 of" in page
    assert "winner takes all" in page
    assert str(tmp_path / "runs/grpo-2") in page


def test_the_page_needs_no_network(page):
    without_namespaces = re.sub(r'(xmlns(:\w+)?|rdf:\w+)="[^"]*"', "", page)
    sources = re.findall(r'(?:src|href)="([^"]*)"', without_namespaces)
    assert [source for source in sources if not source.startswith(("#", "data:"))] == []
    assert not re.search(r"@import|url\((?!#)", page)


def test_what_a_policy_wrote_is_text_and_no_html(page):
    assert "<script" not in page and "<img" not in page
    assert html.escape("<script>alert(") in page
    assert "make &lt;b&gt;it&lt;/b&gt;" in page


def test_the_command_prints_the_table_and_where_the_page_is(runs, tmp_path, capsys):
    main([str(runs), "--output", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "3.000 [-9.706, 15.706]" in printed
    assert "+1.500 [-4.853, +7.853]" in printed
    assert printed.endswith(f"Page: {tmp_path / 'out/report.html'}\n")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"main.md", "main.tex", "figure3_curves.png", "figure3_curves.svg"} <= names


def test_runs_left_out_are_counted(runs, tmp_path, capsys):
    for name in ("x", "y", "z"):
        (write_run(runs / name, [0.1]) / "settings.json").unlink()
    main([str(runs), "--output", str(tmp_path / "out")])
    assert "3 left out: unfinished (no settings.json)." in capsys.readouterr().out
    assert (
        "3 left out: unfinished (no settings.json)." in (tmp_path / "out/report.html").read_text()
    )


def test_a_page_is_the_same_each_time(runs, tmp_path):
    pages = []
    for _ in range(2):
        main([str(runs), "--output", str(tmp_path / "out")])
        pages.append((tmp_path / "out/report.html").read_text())
    assert pages[0] == pages[1]


def test_a_credit_map_of_one_step(runs, tmp_path, capsys):
    run = runs / "praise-1"
    main(["credit-map", str(run), "--step", "1"])
    assert capsys.readouterr().out == f"Page: {run / 'credit_map_1.html'}\n"
    page = (run / "credit_map_1.html").read_text()
    # Scores 5, 2, 4: 0.873 standard deviations above the mean; Shapley pays 2.5 of 5, weight 1.5.
    assert "1 of 1 prompts" in page and "<script" not in page
    assert re.search(r'title="candidate 1: reward 5, 1 tokens, advantage \+1\.309"', page)
    assert 'title="shared tokens: advantage +0.873"' in page


def test_text_beside_a_candidate_in_its_token_is_dotted(tmp_path, joined):
    joined.save_pretrained(tmp_path / "tokenizer")
    run = write_run(tmp_path / "run", [0.0], tokenizer=str(tmp_path / "tokenizer"))
    texts = [["The Hobbit", "Emma"], ["Emma", "The Hobbit"]]
    write_rollouts(run, rewards=[[5.0, 4.0], [1.0, 2.0]], texts=texts)
    file = run / "rollouts/1.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        ids = joined(line["output"])["input_ids"]
        spans = find_candidates(joined, ids, CandidateRules(), cut=False).spans
        record = json.loads(line["shape_grpo"])
        record["starts"], record["ends"] = map(list, zip(*spans, strict=True))
        line["shape_grpo"] = json.dumps(record)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    main(["credit-map", str(run)])
    page = (run / "credit_map_1.html").read_text()
    says = "in one token with the candidate, and no part of its text"
    beside = re.findall(
        rf'<span class="(.*?)" style="[^"]*" title="[^"]*{says}">(.*?)</span>', page
    )
    assert {(name.split()[-1], text) for name, text in beside} == {
        ("edge", "&gt;"),
        ("edge", "&lt;/"),
    }
    own = re.findall(r'<span class="\w+ candidate"[^>]*>(.*?)</span>', page)
    assert "The" in own and "Emma" in own and not any("&gt;" in text for text in own)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["{}/nowhere", "--output", "{}/out"], "report: {}/nowhere: no such folder.", None),
        (["credit-map", "{}/runs/grpo-1"], "report: {}/runs/grpo-1 has no rollouts", None),
        (["credit-map", "{}/runs/praise-1", "--step", "two"], 2, "step"),
        (["--help"], 0, "credit-map RUN"),
        (["credit-map", "--help"], 0, "--step"),
    ],
)
def test_commands_fail_in_one_line(runs, tmp_path, capsys, arguments, code, says):
    with pytest.raises(SystemExit) as ended:
        main([argument.format(tmp_path) for argument in arguments])
    printed = capsys.readouterr()
    if says is None:
        message = str(ended.value)
        assert message.startswith(code.format(tmp_path)) and "\n" not in message
    else:
        assert ended.value.code == code and says in printed.out + printed.err
        assert code == 0 or printed.err.count("\n") == 1


def test_a_report_without_rollouts_loads_neither_verl_nor_torch(tmp_path):
    runs = write_runs(tmp_path / "runs", {"grpo": {1: 1.0}})
    check = (
        "import sys; from recipe.shape_grpo.report.__main__ import main; "
        f"main([{str(runs)!r}, '--output', {str(tmp_path / 'out')!r}]); "
        "print([name for name in ('verl', 'ray', 'vllm', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
