"""The chapter "Together with PHP" of the guide: its Python and its PHP run in their order, each in its own program."""

import json
import re
import subprocess
import sys

import helpers
import pytest
from helpers import pages
from helpers import php as real_php

PAGE, CHAPTER = "docs/guide.md", "Together with PHP"
STORED = "What PHP stored"

# Runs the blocks of the chapter as `pages` does, with other keys. Without PHP, what it would have stored is left out.
PROGRAM = f"""
import json, sys, types
from helpers import pages, php
page, chapter, how, with_php, keys = sys.argv[1:]
main = sys.modules["__main__"] = types.ModuleType("__main__")
prompt, compared = pages.Prompt(main.__dict__), 0
for at, language, source in pages.of_languages(page, chapter):
    for old, new in json.loads(keys).items():
        source = source.replace(old, new)
    if with_php == "no" and (language == "php" or {STORED!r} in source):
        print(f"left out: line {{at}} needs php")
    elif language == "php":
        php.run(source.removeprefix("<?php"))
    elif how == "lines":
        prompt.paste(source)
    else:
        compared += pages.run_block(source, main.__dict__)
print(f"compared: {{compared}}")
"""


@pytest.mark.parametrize("with_php", ["with PHP", "without PHP"])
@pytest.mark.parametrize("how", ["blocks", "lines"])
def test_the_chapter_runs_and_gives_what_its_remarks_say(new_php_key, how, with_php):
    if with_php == "with PHP" and not real_php.available():
        pytest.skip("needs php-cli with sysvshm, which .ci/run installs")
    sources = [source for _, _, source in pages.of_languages(PAGE, CHAPTER)]
    written = set(re.findall(r"0x\w+", "".join(sources)))
    assert len(written) >= 3, "each object of the chapter has a key of its own"
    keys = {key: hex(new_php_key()) for key in sorted(written)}

    words = [PAGE, CHAPTER, how, "yes" if with_php == "with PHP" else "no", json.dumps(keys)]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {helpers.TESTS!r})\n{PROGRAM}", *words],
        capture_output=True,
        text=True,
        timeout=100 * helpers.machine.SLOWER,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    languages = [language for _, language, _ in pages.of_languages(PAGE, CHAPTER)]
    left = done.stdout.count("left out")
    stored = sum(STORED in source for source in sources)
    assert left == (0 if with_php == "with PHP" else languages.count("php") + stored) and stored >= 2
    assert how == "lines" or int(re.search(r"^compared: (\d+)$", done.stdout, re.M)[1]) >= 8


def test_the_blocks_of_the_chapter_are_run_here_and_nowhere_else():
    ours = {at for at, _ in pages.blocks(PAGE, CHAPTER)}
    everywhere = {at for at, source in pages.blocks(PAGE) if pages.lacks(source) == pages.PHP}
    assert ours == everywhere and len(ours) >= 8
    others = [source for page in ("README.md", "docs/recipes.md") for _, source in pages.blocks(page)]
    assert pages.PHP not in map(pages.lacks, others)


def test_the_chapter_begins_with_the_semaphore():
    text = (pages.ROOT / PAGE).read_text()
    first = text[text.index(f"## {CHAPTER}\n") :].split("\n\n")[1]
    assert first.startswith("**Where PHP and Python both write") and "one semaphore" in first and "SIGSEGV" in first
