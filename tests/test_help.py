"""`--help` is written in one style: no Python types, words in capitals for values, every choice named."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from cli import main
from slurm.status import STATES


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands and groups below `command`, with the words that call them."""
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*words, name))


COMMANDS = dict(commands(typer.main.get_command(main.make_app())))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_shows_values_as_words_in_capitals_and_flags_without_a_value(call, words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    code, shown, _ = call(*words, "--help")
    assert code == 0
    assert not re.search(r"<(bool|str|int|float|path|list|\w+\|)", shown)
    assert len(re.findall("Example: scorer", shown)) >= 1
    for param in COMMANDS[words].params:
        if not getattr(param, "is_flag", False):
            assert re.fullmatch(r"[A-Z_=|]+(-M)?", param.metavar or ""), param.name
            choices = param.type_descriptor.choices or ()
            assert all(str(choice) in " ".join(shown.split()) for choice in choices), param.name


def test_a_switch_is_shown_in_the_form_that_changes_the_default(call):
    shown = call("report", "--help")[1]
    assert "--no-few-seeds-correction" in shown
    assert " --few-seeds-correction" not in shown
    assert "--strict" in shown
    assert "--no-strict" not in shown


@pytest.mark.parametrize("switch", ["--few-seeds-correction", "--no-few-seeds-correction", "--no-strict"])
def test_both_forms_of_a_switch_are_accepted(call, switch, tmp_path):
    code, _, told = call("report", "no-such-sweep", switch, "--outputs", tmp_path)
    assert (code, "No such option" in told) == (2, False)
    assert "no-such-sweep" in told


def test_status_explains_the_states_in_the_order_of_its_columns(call):
    shown = call("status", "--help")[1]
    explained = [word for word in re.findall(r"^ *(\w+)", shown.partition("State ")[2], re.MULTILINE) if word in STATES]
    assert tuple(explained) == STATES


def test_showing_the_help_takes_no_form_of_a_switch_away():
    report = typer.main.get_command(main.make_app(["report"])).commands["report"]  # type: ignore[attr-defined]
    before = [(param.name, list(param.opts), list(param.secondary_opts)) for param in report.params]
    report.main(["--help"], standalone_mode=False)
    assert [(param.name, param.opts, param.secondary_opts) for param in report.params] == before


def test_a_paragraph_is_wrapped_at_the_width_of_the_terminal_only(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    shown = call("clean", "--help")[1]
    assert "of the packs that hold a selected run. This also deletes the other runs of these packs." in shown
    assert re.search(r"^ *diverged +finished, with NaN", call("status", "--help")[1], re.MULTILINE), "a table stays"
