"""Profiles: what is written is what is asked for, and a mistake is one line naming file and field."""

import pytest

from slurm.profile import load_profile, minutes, profiles
from sweeps.errors import DefinitionError
from tests.fake_secrets import fake


@pytest.fixture(autouse=True)
def _own_profiles(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def written(tmp_path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30", 30), ("90:00", 90), ("5:30", 6), ("12:00:00", 720), ("2-0", 2880), ("1-12:30", 2190), ("1-0:0:30", 1441)],
)
def test_time_is_read_as_sbatch_reads_it(tmp_path, text, expected):
    assert minutes(text) == expected
    assert load_profile(written(tmp_path, f"scheduler: slurm\ntime: {text}\n")).time == expected


def test_the_shipped_profiles_are_valid_and_the_user_s_own_come_first(tmp_path):
    assert profiles() == ["local", "slurm-example"]
    assert load_profile("local").scheduler == "local"
    assert load_profile("slurm-example").partition == "gpu"
    own = tmp_path / "config" / "scorer" / "profiles"
    own.mkdir(parents=True)
    (own / "slurm-example.yaml").write_text("scheduler: slurm\npartition: mine\n")
    (own / "cluster.yaml").write_text("scheduler: slurm\n")
    assert load_profile("slurm-example").partition == "mine"
    assert load_profile("cluster").name == "cluster"
    assert profiles() == ["cluster", "local", "slurm-example"]


def test_keys_of_sbatch_stay_as_written(tmp_path):
    text = "scheduler: slurm\nsbatch: {exclude: 'n[1-2]', nice: 0100, exclusive: true, --mail_type: NONE}\n"
    keys = load_profile(written(tmp_path, text)).sbatch
    assert keys == {"exclude": "n[1-2]", "nice": "0100", "exclusive": True, "mail-type": "NONE"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partition: x", "mine.yaml: scheduler: Field required"),
        ("scheduler: pbs", "mine.yaml: scheduler: Input should be 'slurm' or 'local', not 'pbs'"),
        ("scheduler: slurm\npartitoin: x", "mine.yaml: partitoin: unknown key"),
        ("scheduler: slurm\ntime: soon", "mine.yaml: time: 'soon' is not a time"),
        ("scheduler: slurm\ntime: 0", "mine.yaml: time: '0' is less than a minute"),
        ("scheduler: slurm\ntime: 2\nsignal_seconds: 120", "signal_seconds: 120 s leave no time of 2 min"),
        ("scheduler: slurm\ncpus: 0", "mine.yaml: cpus: Input should be greater than or equal to 1, not '0'"),
        ("scheduler: slurm\nmemory: lots", "mine.yaml: memory: String should match"),
        ("scheduler: slurm\nsbatch: {array: 0-9}", "mine.yaml: sbatch: array is set by scorer itself"),
        ("scheduler: slurm\nsbatch: {mem: 4G}", "mine.yaml: sbatch.mem: set `memory` at the top level instead"),
        ("scheduler: slurm\nprocesses: 2", "mine.yaml: processes: not used with scheduler: slurm; remove it"),
        ("scheduler: local\npartition: x", "mine.yaml: partition: not used with scheduler: local; remove it"),
        ("scheduler: slurm\ncpus: 1\ncpus: 2", "mine.yaml: line 3: duplicate key 'cpus'"),
        ('scheduler: slurm\nsbatch: {comment: "a\\ntouch x"}', "mine.yaml: sbatch.comment: must be text on one line"),
        ('scheduler: slurm\nsbatch: {comment: "a\\rtouch x"}', "mine.yaml: sbatch.comment: must be text on one line"),
        ("scheduler: slurm\nsbatch: {comment: [a, b]}", "mine.yaml: sbatch.comment: must be text on one line"),
        ('scheduler: slurm\nsbatch: {"nice\\ntouch x\\n": 1}', "mine.yaml: sbatch."),
        (
            'scheduler: slurm\nreport_job: {comment: "a\\ntouch x"}',
            "mine.yaml: report_job.comment: must be text on one",
        ),
        ('scheduler: slurm\nreport_job: {"nice x": 1}', "mine.yaml: report_job."),
        ("scheduler: slurm\nreport_job: {array: 0-9}", "mine.yaml: report_job: array is set by scorer itself"),
        ("scheduler: slurm\nreport_job: {}\nfinaliser: {}", "mine.yaml: finaliser: unknown key"),
        ('scheduler: slurm\nfinaliser: {comment: "a\\ntouch x"}', "mine.yaml: finaliser.comment: must be text on one"),
        ('scheduler: slurm\nfinaliser: {"nice x": 1}', "mine.yaml: finaliser."),
        ('scheduler: slurm\npartition: "a\\ntouch x"', "mine.yaml: partition: String should match"),
        ('scheduler: slurm\nsetup: ["a\\nb"]', "mine.yaml: setup.0: String should match"),
        ('scheduler: slurm\nname: "a\\nb"', "mine.yaml: name: String should match"),
        ("scheduler: local\nenvironment: {A B: x}", "mine.yaml: environment."),
        ("scheduler: local\nenvironment: {A: [x]}", "mine.yaml: environment.A: must be text or a number"),
        (
            fake("scheduler: local\nenvironment: {SCORER¦_STORAGE: x}"),
            fake("mine.yaml: environment.SCORER¦_STORAGE: export it in your shell instead; jobs inherit it"),
        ),
        ("- a", "mine.yaml: not a mapping of keys to values"),
        ("a: [", "mine.yaml: line 1: while parsing"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file_and_the_field(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(DefinitionError) as raised:
        load_profile(path)
    assert message in str(raised.value)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_a_name_that_is_not_known_is_answered_with_those_that_are():
    with pytest.raises(
        DefinitionError, match=r"profile nosuch: not found; available: local, slurm-example. Put your own in"
    ):
        load_profile("nosuch")


def test_the_key_finaliser_of_earlier_versions_is_still_read_as_report_job(tmp_path):
    old = load_profile(written(tmp_path, "scheduler: slurm\nfinaliser: {gpus_per_node: 0}"))
    new = load_profile(written(tmp_path, "scheduler: slurm\nreport_job: {gpus_per_node: 0}"))
    assert old == new
    assert new.report_job == {"gpus-per-node": "0"}
