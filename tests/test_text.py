"""Text from outside is printed as it is, and every command that is printed works where it is printed."""

import html
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cli import main
from scorer_core.support.commands import command_on
from sweeps.errors import DefinitionError
from sweeps.loading import parse
from tests.analysis.synthetic import DEFINITION, make_sweep

NAMES = [
    "scorer[/tanh]", "[red]relu[/red]", "a/b <i>&amp;</i> \"q\" 'p'", "_y_ ^z 5% # \\ {x} | *", "--leading", "..",
    "n" * 27 + "end", "שלום",
]  # fmt: skip
QUESTION = 'Is [/tanh] <b>or</b> [bold]relu[/bold] & "best" :smile:?'
ROOT = Path(__file__).parent.parent
TASK = "minatar/breakout"
FAST = {"report": ["--figure", "intervals", "--format", "png", "--reps", 100]}


def invoke(*words: object, code: int = 0) -> str:
    """What a command prints, as one line per line of a wide screen."""
    done = CliRunner().invoke(main.make_app(), list(map(str, words)))
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def commands(text: str) -> list[str]:
    return re.findall(r"scorer (?:[a-z]+ )+[^\n<;&]*[^\n<;&. ]", text)


@pytest.fixture(scope="module")
def named(tmp_path_factory) -> Path:
    """The outputs of a sweep whose variants have unusual names, in a folder with an unusual name."""
    outputs = tmp_path_factory.mktemp("home") / "res [old]"
    variants = {name: {"ratio": 2.0 + place} for place, name in enumerate(NAMES)}
    changes = {"tasks": [TASK], "seeds": 2, "variants": variants, "baseline": NAMES[0], "question": QUESTION}
    make_sweep(outputs, {**changes, "name": "mine"}, lanes=4)
    return outputs


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")


@pytest.mark.parametrize("verb", ["plan", "status", "report"])
def test_names_and_questions_are_printed_in_full(verb, named, wide):
    printed = invoke(verb, "mine", "--outputs", named, *FAST.get(verb, []))
    for name in NAMES:
        assert name in printed
    if verb != "report":
        assert QUESTION in printed
    assert str(named) in printed or verb == "plan"


@pytest.mark.parametrize("verb", ["plan", "status"])
def test_names_are_folded_and_not_cut_off_on_a_narrow_screen(verb, named, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    printed = invoke(verb, "mine", "--outputs", named, *FAST.get(verb, []))
    assert "…" not in printed
    letters = re.sub(r"[^\S]|[│┃]", "", printed)
    assert printed.count("n" * 10)
    assert "end" in letters


def test_a_plan_of_many_tasks_shows_each_in_full_on_a_narrow_screen(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    tasks = [f"minatar/{game}" for game in ("breakout", "asterix", "freeway", "seaquest", "space_invaders")]
    printed = invoke("plan", "quickstart", "-s", f"tasks=[{', '.join(tasks)}, CartPole-v1, Acrobot-v1]")
    assert all(task in printed for task in [*tasks, "CartPole-v1", "Acrobot-v1"])
    assert max(len(line) for line in printed.splitlines() if line[0:1] in "│┃┏") <= 80


def test_the_page_and_the_tables_hold_names_as_they_are(named):
    invoke("report", "mine", "--outputs", named)
    report = named / "mine" / "report"
    page = (report / "report.html").read_text()
    for name in NAMES:
        assert f'<td data-key="{html.escape(name)}">{html.escape(name)}</td>' in page
    assert "<b>or" not in page
    links = re.findall(r'href="(\.\./packs[^"]*)"', page)
    assert links
    rows = [
        line for line in (report / "table.tex").read_text().splitlines() if line.strip().startswith(("[red", "{}[red"))
    ]
    assert rows
    assert rows[0].strip().startswith("{}["), "LaTeX would read [ as an argument of the line end before"
    assert r"a/b \<i>\&amp;\</i>" in (report / "table.md").read_text()


def test_export_writes_names_as_they_are(named, tmp_path):
    invoke("export", "mine", "--outputs", named, "--folder", tmp_path)
    text = (tmp_path / "runs.csv").read_text()
    assert all(name.replace('"', '""') in text for name in NAMES)


BAD = ["", " a", "a\nb", "a\x1b[31m", "a\u202eb", "a\u200bb", "n" * 81, "a\x00"]


@pytest.mark.parametrize("name", BAD)
def test_a_variant_s_name_that_cannot_be_shown_is_rejected(name):
    with pytest.raises(DefinitionError) as error:
        parse({**DEFINITION, "variants": {"dqn": {}, name: {}}}, "mine.yaml")
    assert str(error.value).startswith("mine.yaml: variants: ")
    assert "\n" not in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", [*BAD, "..", "-x", "a/b", "a b", "x" * 256])
def test_a_sweep_s_name_that_is_no_folder_s_is_rejected(name):
    with pytest.raises(DefinitionError, match=r"^mine\.yaml: name: ") as error:
        parse({**DEFINITION, "name": name}, "mine.yaml")
    assert str(error.value).isprintable()


@pytest.mark.parametrize(("field", "value"), [("question", "a\x1b[31m"), ("tasks", ["CartPole\n-v1"])])
def test_control_characters_are_rejected(field, value):
    with pytest.raises(DefinitionError, match=rf"^mine\.yaml: {field}") as error:
        parse({**DEFINITION, field: value}, "mine.yaml")
    assert str(error.value).isprintable()


def test_typer_prints_a_bad_value_with_brackets_as_it_is(wide):
    assert "'[/x] [red]y'" in invoke("run", "quickstart", "--compile", "[/x] [red]y", code=2)


def test_a_cell_of_a_notebook_gets_plain_lines_without_control_characters(tmp_path):
    command = [sys.executable, "-c", "from cli.main import main; main()", "plan", "quickstart", "--outputs", tmp_path]
    printed = {}
    for name, notebook in (("terminal", {}), ("cell", {"JPY_PARENT_PID": "1"})):
        environment = os.environ | {"FORCE_COLOR": "1"} | notebook
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=ROOT)
        printed[name] = done.stdout
    assert "\x1b[" in printed["terminal"]
    assert "\x1b" not in printed["cell"]


FLAKY = """
import gymnasium
import numpy as np


class Flaky(gymnasium.Env):
    metadata = {"render_modes": []}
    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action):
        raise OSError("lost [connection] to device [/dev/ttyUSB0]")


gymnasium.register("Flaky-v0", entry_point="flaky:Flaky")
"""
REASON = "lost [connection] to device [/dev/ttyUSB0]"


@pytest.mark.slow
def test_the_reason_of_a_failed_pack_is_printed_as_it_is(tmp_path, monkeypatch, wide):
    (tmp_path / "flaky.py").write_text(FLAKY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    base = {"num_envs": 4, "update_every": 4, "learning_starts": 100, "batch_size": 8, "replay_size": 400}
    sweep = {
        "name": "mixed", "question": "Is a failed pack printed?", "tasks": ["CartPole-v1", "flaky:Flaky-v0"],
        "total_steps": 400, "seeds": 1, "base": {**base, "log_points": 10, "phi_widths": [8], "theta_widths": [8]},
        "baseline": "dqn", "variants": {"dqn": {"coupling": "monolithic"}},
    }  # fmt: skip
    (tmp_path / "mixed.yaml").write_text(yaml.safe_dump(sweep))
    printed = invoke("run", "mixed.yaml", "--processes", 2, code=1)
    assert REASON in printed
    assert (tmp_path / "outputs" / "mixed" / "report" / "report.html").exists(), "the rest is reported"
    assert REASON in invoke("status", "mixed")
    (logs,) = (words for words in map(shlex.split, commands(printed)) if words[1] == "logs")
    assert REASON in invoke(*logs[1:])


def executed(text: str) -> list[str]:
    """The verbs of the commands in `text`, each carried out; exit code 2 would be a mistake in the command."""
    verbs = []
    for command in commands(text):
        words = shlex.split(command)
        words += map(str, FAST.get(words[1], []))
        if "PACK" in words or "NAME" in words or words[1] in ("resume", "retry") or ".." in words:
            continue
        done = CliRunner().invoke(main.make_app(), words[1:], input="n\n")
        assert done.exit_code != 2, (command, done.output)
        assert not done.exception or isinstance(done.exception, SystemExit), command
        verbs.append(words[1])
    return verbs


def test_every_printed_command_works_also_after_the_folder_was_renamed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_sweep(tmp_path / "res [old]", {"name": "mine", "seeds": 2})
    assert executed(invoke("status", "mine", "--outputs", "res [old]")) == ["report"]
    (tmp_path / "res [old]" / "mine").rename(tmp_path / "res [old]" / "a name")
    (tmp_path / "res [old]").rename(tmp_path / "moved it")
    invoke("report", "moved it/a name", "--format", "png", "--reps", 100, "--curve-reps", 100)
    page = html.unescape(Path("moved it/a name/report/report.html").read_text())
    assert "scorer report 'moved it/a name'" in page
    part = next(Path("moved it/a name").rglob("part-*.parquet"))
    part.write_bytes(b"damaged")
    printed = invoke("status", "a name", "--outputs", "moved it")
    assert "scorer clean 'a name' --state damaged --outputs 'moved it' && scorer run 'moved it/a name'" in printed
    monkeypatch.chdir(tmp_path / "moved it" / "a name" / "report")
    assert "scorer report .." in page
    invoke("report", "..", *FAST["report"])


def test_report_export_and_import_take_the_name_of_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_sweep(tmp_path / "outputs", {"name": "mine", "seeds": 2})
    (tmp_path / "outputs" / "mine").rename(tmp_path / "outputs" / "v1.2 old")
    Path("ppo.csv").write_text(f"variant,task,seed,step,return\nppo,{TASK},0,50000,1\nppo,{TASK},0,100000,2\n")
    invoke("import", "v1.2 old", "ppo.csv")
    invoke("export", "v1.2 old")
    assert "ppo" in invoke("report", "outputs/v1.2 old", *FAST["report"])


def test_status_proposes_no_report_of_runs_without_a_return(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_sweep(tmp_path / "outputs", {"name": "mine"}, curve=lambda _, steps: steps * float("nan"))
    printed = invoke("status", "mine")
    assert "scorer report" not in printed
    assert "no finished run has a return" in printed


def test_printed_commands_have_the_outputs_as_their_user_gave_them(tmp_path, monkeypatch):
    make_sweep(tmp_path / "store" / "out", {"name": "mine", "seeds": 2})
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "store" / "out")
    monkeypatch.chdir(tmp_path / "here")
    for given in ("link", "../store/out", tmp_path / "here" / "link"):
        assert f"scorer report mine --outputs {given}\n" in invoke("status", "mine", "--outputs", given)
    assert f"scorer report mine --outputs {tmp_path / 'store' / 'out'}\n" in invoke("status", "link/mine")


@pytest.mark.parametrize("verb", ["plan", "run", "status", "report", "submit", "search"])
@pytest.mark.parametrize("outputs", ["link", "link/below"])
def test_outputs_that_are_a_link_to_a_folder_that_does_not_exist_are_one_line(
    call, tmp_path, monkeypatch, verb, outputs
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    words = {"submit": ("quickstart", "--profile", "local"), "search": ("ratio_search",)}.get(verb, ("quickstart",))
    code, _, told = call(verb, *words, "--outputs", outputs)
    link = f"link is a link to {tmp_path / 'gone'}, a folder that does not exist"
    assert (code, told) == (2, f"--outputs {outputs}: {link}; create that folder or give another --outputs\n")
    assert not (tmp_path / "gone").exists()


def test_a_command_names_the_outputs_only_where_it_must(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCORER_OUTPUTS", raising=False)
    assert command_on("resume", Path("outputs/ratio")) == "scorer resume ratio"
    assert command_on("resume", tmp_path / "a b" / "ratio") == "scorer resume ratio --outputs 'a b'"
    assert (
        command_on("resume", tmp_path.parent / "x" / "ratio")
        == f"scorer resume ratio --outputs {tmp_path.parent / 'x'}"
    )
    monkeypatch.setenv("SCORER_OUTPUTS", "a b")
    assert command_on("resume", tmp_path / "a b" / "ratio") == "scorer resume ratio"
