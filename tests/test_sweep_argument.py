"""Every command that takes a sweep accepts a built-in name, a YAML file, and an existing sweep by name or by folder."""

import shutil
import socket
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from cli import main
from sweeps import folders
from sweeps.loading import load
from sweeps.plan import make_plan
from tests.analysis.synthetic import finish_packs
from tests.stub_driver import no_driver

SMALL = {
    "tasks": "[minatar/breakout]",
    "seeds": "1",
    "total_steps": "1600",
    "base.learning_starts": "200",
    "base.replay_size": "1000",
}
OVERRIDES = [word for key, value in SMALL.items() for word in ("-s", f"{key}={value}")]
FORMS = ("built-in name", "YAML file", "name in --outputs", "folder")


class Trained(NamedTuple):
    """Two copies of a finished sweep, `quickstart` with small settings: one has the name of no built-in sweep."""

    outputs: Path
    definition: Path

    def argument(self, form: str) -> str:
        return {
            "built-in name": "quickstart",
            "YAML file": str(self.definition),
            "name in --outputs": "renamed",
            "folder": str(self.outputs / "renamed"),
        }[form]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("forms")
    outputs = folder / "out"
    finish_packs(make_plan(load("quickstart", OVERRIDES[1::2]), outputs))
    shutil.copytree(outputs / "quickstart", outputs / "renamed")
    definition = folder / "mine.yaml"
    shutil.copy(outputs / "quickstart" / "sweep.yaml", definition)
    (folder / "imported.csv").write_text("variant,task,seed,step,return\nppo,minatar/breakout,0,1600,1.5\n")
    (folder / "cluster.yaml").write_text("scheduler: slurm\n")
    return Trained(outputs, definition)


COMMANDS = {
    "plan": (["plan", "SWEEP", *OVERRIDES], 0, "4 distinct runs, 0 to train"),
    "run": (["run", "SWEEP", *OVERRIDES], 0, "All runs are finished."),
    "submit": (["submit", "SWEEP", *OVERRIDES, "--profile", "local", "--dry-run"], 0, "To submit: 0 packs, 0 runs."),
    "status": (["status", "SWEEP"], 0, "inverted"),
    "resume": (["resume", "SWEEP", "-y"], 1, "was never submitted. Submit it with"),
    "resume --profile": (["resume", "SWEEP", "--profile", "local", "-y"], 0, "No matching run is"),
    "retry": (["retry", "SWEEP", "--profile", "local"], 0, "No matching run is"),
    "cancel": (["cancel", "SWEEP", "-y"], 0, "No matching run is running or pending."),
    "throttle": (["throttle", "SWEEP", "3"], 2, "runs on this machine"),
    "clean": (["clean", "SWEEP", "-y"], 0, "Nothing to delete."),
    "report": (["report", "SWEEP", *OVERRIDES, "--figure", "intervals"], 0, "Report: "),
    "export": (["export", "SWEEP", *OVERRIDES], 0, "runs.csv"),
    "import": (["import", "SWEEP", "CSV", *OVERRIDES], 0, "ppo: 1 run"),
    "submit --after": (
        ["submit", "quickstart", *OVERRIDES, "--profile", "CLUSTER", "--after", "SWEEP"],
        2,
        "is in the queue; remove --after",
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_accepts_a_sweep_in_every_form(command, form, trained, call):
    words, code, expected = COMMANDS[command]
    given = {
        "SWEEP": trained.argument(form),
        "CSV": trained.outputs.parent / "imported.csv",
        "CLUSTER": trained.outputs.parent / "cluster.yaml",
    }
    found, out, err = call(*(given.get(word, word) for word in words), "--outputs", trained.outputs)
    assert found == code, out + err
    assert expected in " ".join((out + err).split())


def test_the_folder_of_a_sweep_is_enough_without_outputs(trained, call):
    code, out, _ = call("status", trained.outputs / "renamed")
    assert code == 0
    assert "renamed" in out


def test_a_command_names_the_keys_in_which_a_definition_differs_from_the_frozen_one(trained, call, tmp_path):
    edited = tmp_path / "edited.yaml"
    definition = yaml.safe_load(trained.definition.read_text())
    definition["base"]["ratio"] = 7
    definition["variants"]["ratio-1"]["gamma"] = 0.5
    definition["seeds"] = [0, 1]
    edited.write_text(yaml.safe_dump(definition))
    frozen = trained.outputs / "quickstart" / "sweep.yaml"
    changed = f"note: {edited} differs from {frozen}"
    for words in (["plan", edited], ["submit", edited, "--profile", "local", "--dry-run"]):
        out = call(*words, "--outputs", trained.outputs)[1]
        assert (
            f"{changed}, the definition used before, in: seeds, base.ratio (5, now 7), variants.ratio-1.gamma\n" in out
        )
    for words in (
        ["status", edited],
        ["report", edited, "--figure", "intervals"],
        ["retry", edited, "--profile", "local"],
    ):
        err = call(*words, "--outputs", trained.outputs)[2]
        assert f"{changed}, which this command uses, in: seeds, base.ratio (5, now 7), variants.ratio-1.gamma. " in err
    assert "differs" not in "".join(call("status", "renamed", "--outputs", trained.outputs)[1:])


def test_overrides_that_both_definitions_get_are_not_changes(trained):
    assert folders.changes("quickstart", trained.outputs / "quickstart", OVERRIDES[1::2]) == []
    assert "seeds" in folders.changes("quickstart", trained.outputs / "quickstart")


@pytest.mark.parametrize("command", ["status", "cancel", "report"])
def test_an_unknown_sweep_is_refused_with_the_names_of_those_that_exist(command, trained, call):
    code, _, err = call(command, "nosuch", "--outputs", trained.outputs)
    assert code == 2
    assert err == (
        f"nosuch: not a file, not a built-in sweep, and not a sweep in {trained.outputs}; sweeps there: "
        "quickstart, renamed\n"
    )


@pytest.mark.parametrize("command", ["status", "plan", "run", "report"])
def test_a_command_on_sweeps_names_the_command_for_a_search(command, call, tmp_path):
    (tmp_path / "ratio_search").mkdir()
    shutil.copy(Path(folders.__file__).parent / "ratio_search.yaml", tmp_path / "ratio_search" / "search.yaml")
    for name in (["ratio_search"] if command in ("status", "report") else []) + [tmp_path / "ratio_search"]:
        code, _, err = call(command, name, "--outputs", tmp_path)
        assert code == 2
        assert err == (
            f"{name}: is a search, and this command takes a sweep. See the search with: "
            f"scorer search show ratio_search --outputs {tmp_path}\n"
        )


def test_a_frozen_definition_is_not_compared_with_itself(call, trained, monkeypatch):
    monkeypatch.chdir(trained.outputs)
    assert "differs" not in "".join(call("plan", "quickstart")[1:])


NO_GPU = (
    f"{socket.gethostname()} has no NVIDIA driver: libcuda.so.1 was not found. Use a machine with a GPU, or device: "
    "cpu\n"
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["status", "renamed", "--seed", "7"], "--seed 7: matches none of this sweep; choose from: 0\n"),
        (["status", "renamed", "--seed", "5-3"], "--seed 5-3: the range is empty; write the smaller number first\n"),
        (
            ["run", "renamed", "--device", "gpu"],
            "--device: unknown device 'gpu'; choose from: cpu, cuda, cuda:N, auto\n",
        ),
        pytest.param(["run", "renamed", "--device", "cuda"], NO_GPU, marks=no_driver),
        (["plan", "KEY"], "KEY: seads: unknown key\n"),
        (["status", "OUTSIDE"], "OUTSIDE: name: '../renamed' cannot be a folder's name; "),
        (["submit", "renamed", "--profile", "DEVICE"], "DEVICE: device: unknown device 'gpu'; choose from: "),
    ],
)
def test_a_mistake_is_one_line_that_names_it(words, message, call, trained, tmp_path):
    written = {
        "KEY": "name: key\nquestion: q\ntasks: [minatar/breakout]\ntotal_steps: 800\nseads: 1\n",
        "OUTSIDE": "name: ../renamed\nquestion: q\n",
        "DEVICE": "scheduler: local\ndevice: gpu\n",
    }
    for name, text in written.items():
        (tmp_path / f"{name}.yaml").write_text(text)
        message = message.replace(name, str(tmp_path / f"{name}.yaml"))
    words = [str(tmp_path / f"{word}.yaml") if word in written else word for word in words]
    code, _, err = call(*words, "--outputs", trained.outputs)
    assert code == 2
    assert err.startswith(message)
    assert len(err.splitlines()) == 1


def test_a_folder_that_may_not_be_read_is_one_line(call, trained, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "exists", refuse)  # root may read every folder
    code, _, err = call("status", "renamed", "--outputs", trained.outputs)
    assert code == 1
    assert err == "renamed/sweep.yaml: Permission denied\n"


def test_ctrl_c_before_a_command_begins_gives_no_traceback(call, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "make_app", interrupted)
    assert call("status") == (130, "", "")


@no_driver
def test_a_plan_for_a_gpu_says_what_is_missing_and_what_auto_chose(call, trained, tmp_path):
    profile = tmp_path / "gpu.yaml"
    profile.write_text("scheduler: slurm\ngpus: 1\n")
    words = "plan", "renamed", "--outputs", trained.outputs
    assert "is a build for CPUs. For a GPU: pip " in " ".join(call(*words, "--profile", profile)[1].split())
    assert f"problem: {NO_GPU}".strip() in " ".join(call(*words, "--device", "cuda")[1].split())
    more = "-s", "seeds=2"
    assert f"Device: cpu ({NO_GPU.partition('. ')[0]})." in " ".join(call(*words, *more)[1].split())


def test_on_a_cpu_no_compiler_is_needed_and_compile_on_is_refused(call, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    words = "renamed", "--outputs", trained.outputs
    assert "compile" not in call("plan", *words, "-s", "total_steps=8000000")[1]
    code, _, err = call("run", *words, "-s", "seeds=2", "--compile", "on")
    assert code == 2
    assert err.startswith("--compile on: packs on a CPU run machine code without torch.compile; omit the option")
