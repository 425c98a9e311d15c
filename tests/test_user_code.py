"""Exceptions of code that is not ours: one line with the file, the field, the task and the reason."""

import json
import platform
import re
import sys
import warnings
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

from cli import main
from scorer_core import registry
from scorer_core.config import RunConfig
from scorer_core.envs import tasks
from scorer_core.provenance import provenance
from scorer_core.records import PackFolder
from scorer_core.support.errors import MAX_CHARACTERS, reason
from scorer_core.support.files import write_json
from slurm.jobs import train_pack as job
from slurm.jobs.launcher import failure_reason
from sweeps.errors import DefinitionError
from sweeps.loading import parse

SETTINGS = {
    "num_envs": 2, "update_every": 2, "learning_starts": 40, "replay_size": 100, "batch_size": 8, "phi_widths": [8],
    "theta_widths": [8], "log_points": 4,
}  # fmt: skip
DEFINITION = {"name": "mine", "question": "?", "total_steps": 400, "seeds": 1, "base": SETTINGS}


class UnreadableError(Exception):
    def __str__(self):
        raise RuntimeError("no message")


class PanicError(BaseException):
    """As Rust extensions raise."""


def recurse():
    recurse()


class Walk(gymnasium.Env):
    """A task that can be saved; `fault` is called in the method whose name is `moment`, from its `calls`-th call on."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    fault, moment, calls, seen = None, "", 1, 0

    @classmethod
    def at(cls, moment):
        if moment == cls.moment:
            Walk.seen += 1
            if Walk.seen >= cls.calls:
                assert cls.fault
                cls.fault()

    def __init__(self):
        print("a line that must not be part of JSON")
        self.place = 0
        self.at("__init__")

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        super().reset(seed=seed)
        self.at("reset")
        self.place = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):  # noqa: ARG002
        self.at("step")
        self.place += 1
        return np.full(1, self.place / 8, np.float32), 1.0, self.place == 8, False, {}

    def close(self):
        self.at("close")


def raising(error):
    def fault(*_):
        raise error

    return fault


FAULTS = {
    "a library": (raising(ImportError("libGL.so.1: cannot open shared object file")), "ImportError: libGL.so.1"),
    "an argument": (lambda: Walk(level=1), r"TypeError: Walk\.__init__\(\) got an unexpected keyword"),  # pyright: ignore
    "sys.exit": (lambda: sys.exit(0), "SystemExit: 0"),
    "sys.exit with text": (lambda: sys.exit("no licence"), "SystemExit: no licence"),
    "recursion": (recurse, "RecursionError: maximum recursion depth exceeded"),
    "memory": (raising(MemoryError()), "MemoryError"),
    "no message": (raising(UnreadableError()), "UnreadableError: .*its message cannot be read"),
    "many lines": (raising(ValueError("one\n\n\x1b[31mtwo [/red] \ud800")), r"ValueError: one \?\[31mtwo \[/red\] \?"),
    "a warning": (lambda: warnings.warn("old", stacklevel=1), "UserWarning: old"),
    "a panic": (raising(PanicError("index 3 of 2")), "PanicError: index 3 of 2"),
    "an error of gymnasium": (raising(gymnasium.error.DependencyNotInstalled("pygame")), "DependencyNotInstalled: pyg"),
    "a module": (raising(ModuleNotFoundError("No module named 'mujoco'")), "ModuleNotFoundError: No module named"),
}


@pytest.fixture
def task(monkeypatch):
    """A function that gives the task of `Walk` with a fault."""

    def give(fault=None, moment="", calls=1):
        monkeypatch.setattr(Walk, "fault", fault and staticmethod(fault))
        monkeypatch.setattr(Walk, "moment", moment)
        monkeypatch.setattr(Walk, "calls", calls)
        monkeypatch.setattr(Walk, "seen", 0)
        tasks.check_task.cache_clear()
        tasks.observation_space.cache_clear()
        return "Walk-v0"

    gymnasium.register("Walk-v0", entry_point=lambda **_: Walk(), disable_env_checker=True)
    yield give
    del gymnasium.registry["Walk-v0"]
    tasks.check_task.cache_clear()
    tasks.observation_space.cache_clear()


@pytest.mark.parametrize("moment", ["__init__", "close"])
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_a_constructor_raises_is_one_line_that_names_file_field_task_and_reason(task, fault, moment):
    raised, message = FAULTS[fault]
    with pytest.raises(DefinitionError) as refused:
        parse({**DEFINITION, "tasks": [task(raised, moment)]}, "mine.yaml")
    line = rf"mine\.yaml: tasks\.0: the environment of 'Walk-v0' cannot be made: {message}"
    assert re.match(line, str(refused.value)), refused.value
    assert str(refused.value).isprintable()


def test_an_interrupt_in_a_constructor_stays_an_interrupt(task):
    with pytest.raises(KeyboardInterrupt):
        parse({**DEFINITION, "tasks": [task(raising(KeyboardInterrupt()), "__init__")]}, "mine.yaml")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("GymV26Environment-v0", "the environment of 'GymV26Environment-v0' cannot be made: ImportError: "),
        ("nosuch-v0", "unknown task 'nosuch-v0': neither "),
        ("nosuch:Walk-v9", "unknown task 'nosuch:Walk-v9': neither "),
    ],
)
def test_a_task_of_gymnasium_that_cannot_be_made_is_told_from_an_unknown_one(name, message):
    with pytest.raises(DefinitionError, match=rf"^mine\.yaml: tasks\.0: {message}"):
        parse({**DEFINITION, "tasks": [name]}, "mine.yaml")


def test_what_a_constructor_prints_is_not_part_of_the_output(task, capsys):
    parse({**DEFINITION, "tasks": [task()]}, "mine.yaml")
    assert capsys.readouterr().out == ""


def attempt(folder, monkeypatch):
    """One attempt in this process, without its redirection of stdout and stderr; its exit code."""
    monkeypatch.setattr(job.os, "dup2", lambda *_: None)
    arguments = {"device": "cpu", "commit_seconds": 60.0, "heartbeat_seconds": 1.0, "parent": None, "submission": "",
                 "compile_cache": None}  # fmt: skip
    return job.attempt(folder, SimpleNamespace(**arguments, max_attempts=9))  # pyright: ignore[reportArgumentType]


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    ("fault", "moment", "calls", "message"),
    [
        ("a library", "__init__", 6, "Walk-v0: the .*raises.*ImportError: libGL"),
        ("sys.exit", "reset", 1, "Walk-v0: the environment raises SystemExit: 0"),
        ("many lines", "step", 300, "Walk-v0: the environment raises in step: ValueError: one "),
        ("sys.exit with text", "step", 300, "Walk-v0: the environment raises in step: SystemExit: no licence"),
        ("memory", "step", 300, "Walk-v0: the environment raises in step: MemoryError"),
    ],
)
def test_whatever_an_environment_raises_in_a_pack_is_recorded_in_one_line_and_its_traceback_is_logged(
    task, tmp_path, monkeypatch, capfd, fault, moment, calls, message
):
    folder = PackFolder.create(tmp_path, [RunConfig(task=task(), seed=0, total_steps=4000, **SETTINGS)])
    task(FAULTS[fault][0], moment, calls)
    assert attempt(folder, monkeypatch) == job.FAILED
    state = folder.state()
    assert state["phase"] == "failed"
    assert re.match(message, state["error"]), state["error"]
    assert state["error"].isprintable()
    assert failure_reason(folder, job.FAILED, "") == state["error"]
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.usefixtures("untraced")
def test_an_interrupt_in_an_environment_leaves_an_interrupted_pack(task, tmp_path, monkeypatch):
    folder = PackFolder.create(tmp_path, [RunConfig(task=task(), seed=0, total_steps=4000, **SETTINGS)])
    task(raising(KeyboardInterrupt()), "step", 300)
    assert attempt(folder, monkeypatch) == job.INTERRUPTED
    assert folder.state()["phase"] == "interrupted"


def test_the_log_of_an_attempt_states_the_versions_that_changed(task, tmp_path, monkeypatch, caplog):
    folder = PackFolder.create(tmp_path, [RunConfig(task=task(), seed=0, total_steps=4000, **SETTINGS)])
    write_json(folder.new_attempt() / "provenance.json", {**provenance("cpu"), "python": "3.10.4"})
    task(FAULTS["a library"][0], "__init__")
    assert attempt(folder, monkeypatch) == job.FAILED
    told = f"pack {folder.pack_id}: python 3.10.4 -> {platform.python_version()} between attempts 1 and 2"
    assert told in [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nosuch.module:rate", r"nosuch\.module:rate cannot be imported: ModuleNotFoundError: "),
        ("scorer_core.schedules:nosuch", r"scorer_core\.schedules:nosuch cannot be imported: AttributeError: "),
        ("tests.test_user_code:exits", r"schedule mine: its (rate|tail) raises: SystemExit: 3"),
    ],
)
def test_a_registered_function_that_fails_at_plan_time_is_one_line(tmp_path, monkeypatch, capsys, place, message):
    monkeypatch.setitem(registry.SCHEDULES, "mine", registry.Schedule(place, place))
    path = tmp_path / "mine.yaml"
    definition = {**DEFINITION, "tasks": ["minatar/breakout"], "base": {**SETTINGS, "schedule": "mine"}}
    path.write_text(json.dumps(definition), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["scorer", "plan", str(path), "--outputs", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    error = capsys.readouterr().err
    assert (stopped.value.code, error.count("\n")) == (2, 1)
    assert re.match(message, error), error


def exits(*_):
    sys.exit(3)


def test_an_unexpected_error_is_one_line_that_names_the_file_with_its_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(main, "make_app", raising(ZeroDivisionError("a bug [/red]\nof two lines")))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["scorer"])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    (file,) = tmp_path.iterdir()
    told = (
        f"unexpected error: ZeroDivisionError: a bug [/red] of two lines; the traceback is in {file}; please report it"
    )
    assert (stopped.value.code, capsys.readouterr().err) == (1, told + "\n")
    assert "Traceback" in file.read_text(encoding="utf-8")
    assert file.stat().st_mode & 0o077 == 0


def test_a_reason_has_at_most_a_thousand_characters_of_the_message():
    assert len(reason(ValueError("x" * 10_000))) < MAX_CHARACTERS + 30


def test_an_argument_that_is_not_text_in_the_locale_s_encoding_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scorer", "plan", "b\udcfc.yaml"])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    line = "b\\udcfc.yaml: this argument is not valid text in the encoding of the locale\n"
    assert (stopped.value.code, capsys.readouterr().err) == (2, line)
