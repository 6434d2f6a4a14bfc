"""The pages: what they link to is there, and what they promise of formats and names is what there is."""

import re
from pathlib import Path

import pytest

import unisono
from unisono import clusters, commands, errors, files, testing

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in link and not link.startswith("mailto:"):
            target = (page.parent / link).resolve()
            assert target.exists(), link


def test_stability_and_security_are_found_from_where_people_begin():
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text()
        assert "(docs/stability.md)" in text
        assert "(SECURITY.md)" in text


def test_the_exit_statuses_that_are_promised_are_those_of_the_help(unisono):
    promised = re.search(r"\| exit statuses \|.*?: ([\d, ]+\d),", (ROOT / "docs/stability.md").read_text())[1]
    for command in ("fetch", "each", "sum"):
        told = unisono(command, "--help").stdout.split("Exit status:")[1]
        assert re.findall(r"\d+", promised) == re.findall(r"\b\d+\b", told), command


def test_a_long_option_cannot_be_cut_short(unisono):
    assert unisono("fetch", "--tim", "5s", "http://localhost/").returncode == 2


def test_every_module_that_is_promised_lists_its_names():
    for module in (unisono, clusters, commands, errors, files, testing):
        assert module.__all__, module
        assert all(hasattr(module, name) for name in module.__all__)


def test_the_glibc_that_is_promised_is_the_one_that_wheels_are_built_for():
    [version] = re.findall(r'^GLIBC = "(.*)"$', (ROOT / "release/wheels.py").read_text(), re.MULTILINE)
    assert f"glibc {version} " in (ROOT / "docs/stability.md").read_text()
