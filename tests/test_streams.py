"""A stdout that cannot be written, and a locale that is not UTF-8: no command ends because of them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.test_scorer import SWEEP

ROOT = Path(__file__).parent.parent
SPEAK = (  # prints as much as no buffer holds, in two parts
    "import os, sys; from scorer_core.support import streams; streams.protect();"
    "[print('\\u2192 \\xfc ' * 9000, flush=True) for _ in range(2)];"
    "file = open(os.devnull); print('error', file=sys.stderr);"
    "print(file.fileno() > 2, streams.lost_output(), file=sys.stderr); os.system('echo child')"
)


def shell(script: str, **variables: str) -> tuple[int, str, str]:
    """`script` with $SPEAK, which prints two long lines; its exit code, output and errors."""
    environment = {**os.environ, "PYTHON": sys.executable, "SPEAK": SPEAK, **variables}
    done = subprocess.run(["bash", "-c", script], capture_output=True, cwd=ROOT, env=environment)
    return done.returncode, done.stdout.decode("latin-1"), done.stderr.decode("latin-1")


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        ('"$PYTHON" -c "$SPEAK" > /dev/full', 0, "error\nTrue No space left on device\n"),
        ('"$PYTHON" -c "$SPEAK" | head -c 1 > /dev/null; exit ${PIPESTATUS[0]}', 0, "error\nTrue None\n"),
        ('"$PYTHON" -c "$SPEAK" >&-', 0, "error\nTrue None\n"),
        ('"$PYTHON" -c "$SPEAK" > /dev/null 2> /dev/full', 0, ""),
        ('"$PYTHON" -c "$SPEAK" > /dev/null 2>&-', 0, ""),
        ('"$PYTHON" -c "$SPEAK" <&- >&- 2>&-', 0, ""),
    ],
)
def test_output_that_cannot_be_written_is_lost_and_the_program_goes_on(redirection, code, said):
    assert shell(redirection) == (code, "", said)


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "LANG": "", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_a_character_that_the_terminal_lacks_is_a_question_mark(variables):
    code, out, err = shell('"$PYTHON" -c "$SPEAK"', **variables)
    assert (code, err) == (0, "error\nTrue None\n")
    assert out == ("? ? " * 9000 + "\n") * 2 + "child\n"


@pytest.fixture(scope="module")
def latin_1(tmp_path_factory) -> dict[str, str]:
    """The variables of a German locale whose encoding is ISO-8859-1."""
    place = tmp_path_factory.mktemp("locale")
    command = ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", str(place / "de_DE.ISO-8859-1")]
    if shutil.which("localedef") is None:
        pytest.skip("this machine has no localedef")
    made = subprocess.run(command, capture_output=True, text=True)
    if not (place / "de_DE.ISO-8859-1").exists():
        pytest.skip(f"localedef cannot make de_DE.ISO-8859-1: {made.stderr}")
    return {"LOCPATH": str(place), "LC_ALL": "de_DE.ISO-8859-1", "PYTHONUTF8": "0"}


@pytest.fixture(scope="module")
def trained(latin_1, tmp_path_factory) -> tuple[Path, dict[str, str], tuple[int, str, str]]:
    """A sweep that was trained in that locale while stdout was full."""
    path = tmp_path_factory.mktemp("latin") / "mine.yaml"
    definition = {**SWEEP, "question": "Für welches Verhältnis – 中?", "tasks": ["minatar/breakout"], "seeds": 1}
    definition |= {"variants": {"dqn": {"coupling": "monolithic"}}}
    path.write_text(yaml.safe_dump(definition, allow_unicode=True), encoding="utf-8")
    variables = {**latin_1, "FILE": str(path), "OUT": str(path.parent / "out")}
    return path, variables, shell('"$PYTHON" -m cli.main run "$FILE" --outputs "$OUT" > /dev/full', **variables)


@pytest.mark.slow
def test_a_full_stdout_does_not_stop_training_or_the_report_and_is_exit_code_1(trained):
    path, _, (code, out, err) = trained
    assert (code, out) == (1, "")
    assert err == "stdout: not all output could be written: No space left on device\n"
    assert "Für welches Verhältnis – 中?" in (path.parent / "out/mine/report/report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_in_a_latin_1_locale_files_are_read_as_utf_8_and_the_terminal_gets_what_it_has(trained):
    _, variables, _ = trained
    code, out, err = shell('"$PYTHON" -m cli.main plan "$FILE" --outputs "$OUT"', **variables)
    assert (code, err) == (0, "")
    assert "mine: Für welches Verhältnis ? ??" in out
    options = "--figure intervals --format svg --reps 200 --curve-reps 100"
    code, out, err = shell(f'"$PYTHON" -m cli.main report "$FILE" --outputs "$OUT" {options}', **variables)
    assert (code, err) == (0, ""), err
