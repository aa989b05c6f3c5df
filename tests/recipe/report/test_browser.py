"""The report and a credit map in Debian's chromium."""

import os
import shutil

import pytest

from recipe.shape_grpo.report.__main__ import main
from tests.recipe.report.run_folders import write_rollouts, write_run

HOW_TO_INSTALL = (
    "apt-get install -y chromium chromium-driver, and the test extra of this package (selenium)"
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
HOSTILE = "</span><script>document.title = 'taken'; throw 1</script><img src=x>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    programs = [shutil.which("chromium"), shutil.which("chromedriver")]
    if None in programs:
        # On a laptop the browser is a matter of taste; in CI nobody would see that it is missing.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no browser: {HOW_TO_INSTALL}")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A report and a credit map of runs that fill every part of them."""
    folder = tmp_path_factory.mktemp("pages")
    for method in ("grpo", "praise"):
        for seed in (1, 2):
            for k in (3, 5):
                run = write_run(
                    folder / f"runs/{method}-{k}-{seed}",
                    [0.0, 0.1 * seed * k],
                    [0.1 * seed * step for step in range(12)],
                    method=method, seed=seed, candidates=k,
                )  # fmt: skip
                write_rollouts(run, inputs=[HOSTILE] * 3, text=HOSTILE)
    main([str(folder / "runs"), "--output", str(folder)])
    main(["credit-map", str(run), "--output", str(folder / "map.html")])
    return folder


def opened(browser, page):
    browser.get(page.as_uri())
    return browser


def test_tables_and_pictures_are_there_and_the_console_is_silent(browser, pages):
    opened(browser, pages / "report.html")
    assert browser.title == "ShapE-GRPO: report"
    rows = browser.execute_script(
        "return [...document.querySelectorAll('#main tbody tr:not(.task)')].map(tr => tr.innerText)"
    )
    assert len(rows) == 4 and "grpo" in rows[0] and "0.450 [-1.456, 2.356]" in rows[0]
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(svg => [svg.clientWidth, "
        "svg.clientHeight, svg.querySelectorAll('path').length])"
    )
    assert len(drawn) == 4
    assert all(width > 400 and height > 150 and paths > 20 for width, height, paths in drawn)
    broken = "return [...document.images].filter(image => image.naturalWidth == 0).length"
    assert browser.execute_script(broken) == 0
    assert browser.get_log("browser") == []


def test_the_page_fits_a_phone(browser, pages):
    opened(browser, pages / "report.html")
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_text_can_be_read_in_the_dark(browser, pages):
    opened(browser, pages / "report.html")
    colours = (
        "const of = (name, of) => getComputedStyle(document.querySelector(name))[of];"
        "return [of('body', 'backgroundColor'), of('body', 'color'), of('figure svg text', 'fill')]"
    )
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    seen = []
    for media in ({"features": []}, dark):
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        page, text, label = (
            sum(map(int, colour[4:-1].split(","))) / 3 for colour in browser.execute_script(colours)
        )
        seen.append(page)
        assert abs(page - text) > 150 and abs(page - label) > 150
    assert seen[0] > 200 > 100 > seen[1]


def test_a_credit_map_colours_candidates_and_runs_nothing_a_policy_wrote(browser, pages):
    opened(browser, pages / "map.html")
    assert browser.title.startswith("Credit map: ")
    candidates = browser.execute_script(
        "return [...document.querySelectorAll('.candidate')].map(span => [span.innerText, "
        "span.title, getComputedStyle(span).backgroundColor])"
    )
    text, title, colour = candidates[0]
    assert text == HOSTILE + " 0" and title.startswith("candidate 1: reward 5, 1 tokens")
    assert colour.startswith("rgba(0, 114, 178")
    assert browser.execute_script("return document.scripts.length + document.images.length") == 0
    assert browser.get_log("browser") == []
