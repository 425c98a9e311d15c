"""Where a study is kept, and what is said when that does not go well."""

import fcntl
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from scorer_core.support.errors import RecordError
from slurm.jobs.search_worker import Worker
from sweeps import storage, study
from sweeps.errors import DefinitionError
from sweeps.storage import STORAGE_VARIABLE, StorageError
from sweeps.studies import study_in
from sweeps.study import Study
from tests.fake_secrets import fake
from tests.postgresql import PASSWORD, free_port, postgresql  # noqa: F401, a fixture
from tests.search_synthetic import SyntheticTrainer, search_of


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, but for the empty ones that locks are held on."""
    return {
        str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size
    }


def one_line(refused: pytest.ExceptionInfo[BaseException]) -> str:
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.fixture(autouse=True)
def _no_storage_of_the_user(monkeypatch):
    monkeypatch.delenv(STORAGE_VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"total_steps": 8000}, "(total_steps: 4000, now 8000). Choose another `name`"),
        ({"sampler": "random"}, "(sampler: tpe, now random)"),
        ({"space": {"ratio": {"log": [1, 2]}}}, "(space: {'ratio'"),
    ],
)
def test_a_study_with_another_definition_is_rejected_and_nothing_is_overwritten(tmp_path, changes, message):
    first = Study(search_of(trials=3), tmp_path / "syn")
    assert Worker(first, SyntheticTrainer(), 3).work() == 0
    for frozen in (True, False):  # with the folder's own definition, and by what the storage holds alone
        if not frozen:
            (tmp_path / "syn" / "search.yaml").unlink()
        before = contents(tmp_path)
        with pytest.raises(DefinitionError) as refused:
            Study(search_of(**changes), tmp_path / "syn")
        assert message in one_line(refused)
        assert contents(tmp_path) == before


def test_a_changed_frozen_search_is_noticed_and_can_be_written_again(tmp_path):
    folder = tmp_path / "syn"
    assert Worker(Study(search_of(trials=3), folder), SyntheticTrainer(), 3).work() == 0
    frozen = folder / "search.yaml"
    written = frozen.read_bytes()
    assert study_in(folder).search == search_of(trials=3)
    for damaged in (written.replace(b"total_steps: 4000", b"total_steps: 4001"), written + b"\xff"):
        frozen.write_bytes(damaged)
        with pytest.raises(DefinitionError) as refused:
            study_in(folder)
        assert f"{frozen}: was changed after scorer wrote it" in one_line(refused)
    frozen.unlink()  # as the message says
    assert len(Study(search_of(trials=3), folder).trials()) == 3
    assert frozen.read_bytes() == written


def test_a_frozen_search_without_a_checksum_is_read_and_not_written_by_who_only_looks(tmp_path):
    folder = tmp_path / "syn"
    Study(search_of(trials=3), folder)
    frozen = folder / "search.yaml"
    old = frozen.read_bytes().partition(b"\n")[2]
    frozen.write_bytes(old)
    assert study_in(folder).search == search_of(trials=3)
    assert frozen.read_bytes() == old
    Study(search_of(trials=4), folder)
    assert frozen.read_bytes().startswith(b"# SHA-256")


def test_a_study_with_this_name_that_scorer_did_not_create_is_rejected(tmp_path):
    url = f"sqlite:///{tmp_path}/theirs.db"
    optuna.create_study(study_name="syn", storage=url).optimize(lambda trial: trial.suggest_float("x", 0, 1), 2)
    os.environ[STORAGE_VARIABLE] = url
    with pytest.raises(DefinitionError) as refused:
        Study(search_of(), tmp_path / "syn")
    assert "has a study with this name that scorer did not create" in one_line(refused)
    assert len(optuna.load_study(study_name="syn", storage=url).trials) == 2
    del os.environ[STORAGE_VARIABLE]


def test_a_study_created_with_another_major_version_of_optuna_is_rejected(tmp_path):
    started = Study(search_of(), tmp_path / "syn")
    bound = started.optuna.user_attrs[study.BOUND_TO] | {"optuna": "4.9.0"}
    started.optuna.set_user_attr(study.BOUND_TO, bound)
    before = contents(tmp_path)
    with pytest.raises(DefinitionError) as refused:
        Study(search_of(), tmp_path / "syn")
    assert f"was created with Optuna 4.9.0, this is Optuna {optuna.__version__}" in one_line(refused)
    assert contents(tmp_path) == before


def test_a_database_of_another_version_of_optuna_is_rejected(tmp_path, monkeypatch):
    file = tmp_path / "study.db"
    monkeypatch.setenv(STORAGE_VARIABLE, f"sqlite:///{file}")
    Study(search_of(), tmp_path / "syn")
    with sqlite3.connect(file) as connection:
        connection.execute("update alembic_version set version_num = 'v9.0.0.a'")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(StorageError) as refused:
        Study(search_of(), tmp_path / "syn")
    assert f"sqlite:///{file}: written by another version of Optuna" in one_line(refused)
    assert file.read_bytes() == before


def test_a_file_that_is_not_a_journal_is_rejected_and_kept(tmp_path):
    Study(search_of(), tmp_path / "syn")
    journal = tmp_path / "syn" / "study.journal"
    journal.write_text('{"op_code":99,"worker_id":"x"}\nnot even JSON\n{"op_code":0}\n')
    with pytest.raises(StorageError) as refused:
        Study(search_of(), tmp_path / "syn")
    assert f"{journal}: damaged, or not a journal of Optuna {optuna.__version__}" in one_line(refused)
    assert journal.read_text().startswith('{"op_code":99')


def test_a_line_cut_off_in_writing_is_dropped_and_the_study_goes_on(tmp_path):
    started = Study(search_of(trials=3), tmp_path / "syn")
    assert Worker(started, SyntheticTrainer(), 3).work() == 0
    with (tmp_path / "syn" / "study.journal").open("ab") as journal:
        journal.write(b'{"op_code":4,"worker_')
    again = Study(search_of(trials=5), tmp_path / "syn")
    assert Worker(again, SyntheticTrainer(), 3).work() == 0
    assert [t.state for t in Study(search_of(trials=5), tmp_path / "syn").trials()] == [TrialState.COMPLETE] * 5


def test_a_journal_that_another_process_locks_is_an_error_that_names_it(tmp_path, monkeypatch):
    Study(search_of(), tmp_path / "syn")
    monkeypatch.setattr(storage, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(study, "ASKING_PATIENCE_SECONDS", 0.3)
    for name, message in (("asking.lock", "asking.lock: locked"), ("study.journal.lock", "study.journal: locked")):
        with (tmp_path / "syn" / name).open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(StorageError) as refused:
                Study(search_of(), tmp_path / "syn").claim(1)
            assert message in one_line(refused)


def test_a_lock_that_cannot_be_made_is_one_line_that_names_the_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as refused:
        Study(search_of(), tmp_path / "file" / "syn")
    assert one_line(refused).startswith(f"{tmp_path}/file/syn/asking.lock: cannot be opened: ")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("canceling statement due to lock timeout", "locked by another process"),
        ("(1205, 'Lock wait timeout exceeded; try restarting transaction')", "locked by another process"),
        ("connection timeout expired", "cannot be used"),
    ],
)
def test_a_database_that_does_not_answer_in_time_is_not_called_locked(words, reason):
    with pytest.raises(StorageError) as refused, storage.as_storage_error("db"):
        raise OperationalError("select 1", {}, RuntimeError(words))
    assert one_line(refused) == f"storage db: {reason}: {words}"


def test_a_locked_database_is_an_error_that_names_it(tmp_path, monkeypatch):
    monkeypatch.setenv(STORAGE_VARIABLE, f"sqlite:///{tmp_path}/study.db")
    monkeypatch.setattr(storage, "CONNECT_SECONDS", 0.2)
    started = Study(search_of(), tmp_path / "syn")
    with sqlite3.connect(tmp_path / "study.db") as other:
        other.execute("begin exclusive")
        with pytest.raises(StorageError) as refused:
            started.claim(1)
        assert "study.db: locked by another process: database is locked" in one_line(refused)
    other.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql¦://me:{word}@127.0.0.1:{port}/db", "postgresql://127.0.0.1:{port}/db: cannot be used: "),
        ("sqlite:////nosuch/folder/study.db", "sqlite:////nosuch/folder/study.db: cannot be used: unable to open"),
        ("oracle¦://me:{word}@host/db", "oracle://host/db: needs the Python package "),
        ("nosuch¦://me:{word}@host/db", "nosuch://host/db: cannot be used: "),
        ("postgresql¦://me:p@{word}@127.0.0.1:{port}/db", "in a password, write @ as %40"),
        (
            "postgresql://127.0.0.1:{port}/db?to¦ken={word}",
            "storage postgresql://127.0.0.1:{port}/db: cannot be used",
        ),
        (
            "postgresql://127.0.0.1:{port}/db?pw¦d={word}",
            "storage postgresql://127.0.0.1:{port}/db: cannot be used",
        ),
        (
            "postgresql://127.0.0.1:{port}/db?op¦tions=-c x={word}",
            "storage postgresql://127.0.0.1:{port}/db: cannot be used",
        ),
        ("sqlite:////nosuch/study.db?ke¦y={word}", "storage sqlite:////nosuch/study.db: cannot be used"),
        ("not a url, {word}", f"{STORAGE_VARIABLE}: not the URL of a database"),
    ],
)
def test_a_storage_that_cannot_be_reached_is_one_line_without_its_password(tmp_path, monkeypatch, url, message):
    port = free_port()
    storage = fake(url).format(word=PASSWORD, port=port)
    monkeypatch.setenv(STORAGE_VARIABLE, storage)
    with pytest.raises((RecordError, DefinitionError)) as refused:
        Study(search_of(), tmp_path / "syn")
    assert message.format(port=port) in one_line(refused)
    assert PASSWORD not in one_line(refused)
    assert not contents(tmp_path)


def test_postgresql_holds_a_study_and_its_password_is_written_nowhere(tmp_path, monkeypatch, postgresql):  # noqa: F811
    monkeypatch.setenv(STORAGE_VARIABLE, postgresql)
    search = search_of(name="pg", trials=6)
    command = [sys.executable, "-m", "tests.search_synthetic", str(tmp_path / "pg"), "3", "0.3"]
    Study(search, tmp_path / "pg")
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)]
    seen = ""
    while any(worker.poll() is None for worker in workers):
        seen += subprocess.check_output(["ps", "-eo", "args"], text=True)
        time.sleep(0.3)
    printed = [worker.communicate()[0].decode() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], printed
    assert [t.state for t in study_in(tmp_path / "pg").trials()] == [TrialState.COMPLETE] * 6
    assert "tests.search_synthetic" in seen
    for text in (seen, *printed, *(content.decode(errors="replace") for content in contents(tmp_path).values())):
        assert PASSWORD not in text
    kept = json.loads((tmp_path / "pg" / "storage.json").read_text())["url"]
    assert re.fullmatch(r"postgresql(\+psycopg)?://scorer@127.0.0.1:\d+/postgres", kept)
    monkeypatch.delenv(STORAGE_VARIABLE)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert len(study_in(tmp_path / "pg").trials()) == 6, "where it is, is known; the password from where libpq looks"
    monkeypatch.setenv("PGPASSWORD", "wrong")
    with pytest.raises(StorageError, match=r"cannot be used: .*password authentication failed") as refused:
        study_in(tmp_path / "pg")
    assert one_line(refused)


def test_a_worker_fails_with_one_line_if_its_database_is_gone(tmp_path, monkeypatch):
    monkeypatch.setenv(STORAGE_VARIABLE, f"sqlite:///{tmp_path}/study.db")
    started = Study(search_of(trials=4), tmp_path / "syn")

    def vandalise() -> None:
        engine = sqlalchemy.create_engine(os.environ[STORAGE_VARIABLE])
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("drop table if exists trial_user_attributes"))
        engine.dispose()

    with pytest.raises(StorageError, match="cannot be used: no such table: trial_user_attributes"):
        Worker(started, SyntheticTrainer(pause=vandalise), 2).work()


def test_optuna_dashboard_starts_on_the_same_storage_and_lists_the_study(tmp_path):
    assert Worker(Study(search_of(trials=4), tmp_path / "syn"), SyntheticTrainer(), 4).work() == 0
    port = free_port()
    command = [sys.executable, "-c", "from optuna_dashboard._cli import main; main()"]
    journal = str(tmp_path / "syn" / "study.journal")
    server = subprocess.Popen(
        [*command, journal, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        end = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=5) as answer:
                    listed = json.loads(answer.read())
                break
            except OSError:
                assert time.monotonic() < end
                assert server.poll() is None, server.communicate()[0].decode()
                time.sleep(0.3)
    finally:
        server.kill()
        server.communicate()
    assert [entry["study_name"] for entry in listed["study_summaries"]] == ["syn"]
