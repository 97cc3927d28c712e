"""The manual page: it is made from the parser, is the one that is installed, and `man` and its checkers take it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shmvar.cli import main, manual

INSTALLED = Path(__file__).parents[2] / "docs/man/data/share/man/man1/shmvar.1"


@pytest.fixture(scope="module")
def page():
    return manual.page(main.commands())


def told(page, *command):
    """What a program prints of the page, without overprinting; and what it complains of."""
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, input=page, capture_output=True, text=True, timeout=60)
    return re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout), done.stderr


def test_the_page_that_is_installed_is_the_one_that_the_parser_makes(page):
    assert INSTALLED.read_text() == page, f"run: shmvar manual >{INSTALLED.relative_to(Path(__file__).parents[2])}"


def test_the_command_prints_it(page):
    command = [sys.executable, "-m", "shmvar", "manual"]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout == page


def test_every_command_and_option_is_there_and_what_an_exit_status_and_a_variable_mean(page):
    plain = page.replace("\\-", "-")
    found = main.commands().parser
    commands = next(action for action in found._actions if isinstance(action.choices, dict)).choices
    for name, command in commands.items():
        assert f'.SS "{name}"' in plain or f"{name}" in plain
        for option in command._option_string_actions:
            assert option in ("-h", "--help") or rf"\fB{option}\fR" in plain, (name, option)
    for text in ("SHMVAR_PASSWORD", "NO_COLOR", '.SH "EXIT STATUS"', '.SH "EXAMPLES"', "130", "__complete"):
        assert (text in plain) == (text != "__complete")


def test_no_line_is_a_request_that_was_meant_as_text(page):
    assert set(re.findall(r"^[.'](\S*)", page, re.MULTILINE)) == {
        *('\\"', "TH", "SH", "SS", "TP", "PP", "B", "br", "RS", "RE", "nf", "fi"),
    }
    assert manual._escaped(".so /etc/passwd \\fB'-`") == "\\&.so /etc/passwd \\efB\\(aq\\-\\(ga"


def test_groff_formats_it_without_a_warning(page):
    text, complaints = told(page, "groff", "-man", "-ww", "-Tascii", "-P-c")
    text = " ".join(text.split())
    assert "shmvar put KEY INDEX VALUE" in text and "\"'5'\" is the text 5" in text
    assert complaints == ""


def test_mandoc_finds_nothing_wrong(page):
    complaints, _ = told(page, "mandoc", "-T", "lint", "-W", "warning")
    # A page without a date is the same whenever it is made.
    assert [line for line in complaints.splitlines() if "missing date" not in line] == []
