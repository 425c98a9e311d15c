"""The script of a job, and the call of sbatch, with submitit.

submitit writes the request to sbatch: the options, the array and its throttle. Four of its parts are not used:
- its call of sbatch, which shows one line of an error and fails if the name of a folder contains a %;
- its pickles, which load the code of the time when a job starts, one file per task, renamed after sbatch has answered;
- its requeueing, by a signal that reaches all processes of the step;
- its job states, which need accounting.
The job is a shell that starts one Python process on one pack, or on several (`train_packs`). Only the shell gets the
signal (`B:`). It forwards the signal, and it alone requeues the job.
"""

import re
import shlex
import sys
from pathlib import Path
from typing import Any

from submitit.slurm.slurm import SlurmExecutor

from scorer_core.support.files import replace_file
from slurm.backend import SchedulerError, SubmissionUnknownError
from slurm.cluster.scheduler import NoAnswerError, all_lines, not_understood, run_process
from slurm.jobs.train_pack import INTERRUPTED
from slurm.profile import LINE
from slurm.submissions.submission import HEARTBEAT_SECONDS, PRIVATE, JobArray, Submission, report_command, setup

JOB_NUMBER = re.compile(r"^[ \t]*([0-9]+)(;\S+)?[ \t\r]*$", re.MULTILINE)
CONNECTION_LOST = re.compile("timed out|Zero Bytes were transmitted", re.IGNORECASE)
KEPT_FROM_JOBS = ("WANDB_API_KEY",)  # only `scorer export` needs it; a profile's `environment` can still set it
SBATCH_SECONDS = 300.0  # sbatch retries for two minutes if the controller is busy

# Before the profile's setup, which may be slow: Slurm may signal a job at any time.
LISTEN = """\
child= received=
receive() { received=$1 woken=1; [ -z "$child" ] || kill -s "$1" "$child" 2>/dev/null; }
trap 'receive USR2' USR2   # the time limit is near: commit, then requeue
trap 'receive TERM' TERM   # cancelled or preempted: commit; the sender decides whether to requeue"""

# A second signal interrupts only `wait`, so the shell waits again. If the signal kills Python before its handler is
# installed, the job counts as interrupted, not as killed. The job id of the last task is that of its array: as an
# argument of scontrol it means all tasks. A requeue ends this shell with TERM, so after TERM it asks for no second one.
RUN = """\
run() {{
  "$@" & child=$! code=127
  [ -z "$received" ] || kill -s "$received" "$child"
  while woken=; wait "$child"; last=$?; [ $last = 127 ] || code=$last; [ -n "$woken" ] && [ $last != 127 ]; do :; done
  child=
}}
if [ -n "$received" ]; then code={again}; else run "${{command[@]}}"; fi
if [ $code -gt 128 ]; then
  if [ -n "$received" ]; then code={again}; else {on_kill}; fi
fi
if [ $code = {again} ] && [ "$received" != TERM ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {most} ]; then
  for pause in 0 2 5 15 30; do   # the controller may be restarting
    sleep $pause
    [ "$received" != TERM ] || break
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID" && break
  done
fi
[ $code != 0 ] || [ -s "$log" ] || rm -f "$log"
exit $code
"""


class ArrayExecutor(SlurmExecutor):
    """submitit's executor for a shell command. It calls sbatch itself, to get the whole output."""

    @classmethod
    def affinity(cls) -> int:
        return 2  # a script can be shown without Slurm; the call of sbatch reports that sbatch is missing

    def text(self, body: str) -> str:
        """The job script with `body` after the options and the setup."""
        return self._make_submission_file_text(body, "")

    def send(self, body: str) -> str:
        """Submit with sbatch; the id of the job.

        Raises:
            SchedulerError: if sbatch refuses, or is not installed.
            SubmissionUnknownError: if it is not known whether the job is in the queue: sbatch does not end, is killed,
                succeeds without a number or fails with one, or loses the connection to Slurm's controller.
        """
        path = Path(self.folder) / f"{self.parameters['job_name']}.sh"
        replace_file(path, self.text(body).encode(), PRIVATE)
        try:
            done = run_process("sbatch", "--parsable", str(path), patience=SBATCH_SECONDS, without=KEPT_FROM_JOBS)
        except NoAnswerError as error:
            raise SubmissionUnknownError(str(error)) from None
        if done.returncode == 0:
            return job_number(done.stdout)
        refusal = all_lines(f"{done.stderr}\n{done.stdout}") or f"sbatch: exit code {done.returncode}"
        if done.returncode < 0 or JOB_NUMBER.search(done.stdout) or CONNECTION_LOST.search(done.stderr):
            raise SubmissionUnknownError(refusal)
        raise SchedulerError(refusal)


def job_number(answer: str) -> str:
    """The id of a job in the output of `sbatch --parsable`: the first line of the form N or N;cluster.

    Raises:
        SubmissionUnknownError: if there is none.
    """
    found = JOB_NUMBER.search(answer)
    if not found:
        raise SubmissionUnknownError(not_understood("sbatch", answer))
    return found.group(1)


def executor(submission: Submission, array: JobArray, is_array: bool = True, after: list[str] | None = None) -> Any:
    """The request to sbatch for `array`, which starts after the jobs `after` have ended (default: those it has itself).

    With `is_array` False it is a single job: the one that draws the report.

    Raises:
        SchedulerError: if sbatch cannot handle the path of the submission.
    """
    profile, before, after = submission.profile, setup(submission), after or array.after
    packs = profile.packs_per_job if submission.packs and is_array else 1
    executor = ArrayExecutor(submission.folder)
    logs = str(submission.folder / "logs")
    if not re.fullmatch(LINE, logs):
        raise SchedulerError(
            f"{logs!r}: sbatch accepts no path with a line break or control character; use another --outputs"
        )
    output = f"{logs.replace('%', '%%')}/{'%A_%a.log' if is_array else 'report.log'}"  # Slurm expands % in this path
    extra = {"requeue": True, "output": output}
    if is_array:
        extra["signal"] = f"B:USR2@{profile.signal_seconds}"
    executor.update_parameters(
        job_name=array.name, time=profile.time, nodes=1, cpus_per_task=packs * profile.cpus,
        gpus_per_node=profile.gpus_of(packs), mem=profile.memory_of(packs),
        partition=profile.partition, account=profile.account, qos=profile.qos, constraint=profile.constraint,
        setup=[LISTEN, *before] if is_array else before, use_srun=False, stderr_to_stdout=True, wckey=None,
        array_parallelism=array.throttle or array.count,
        dependency=f"afterany:{':'.join(after)}" if after else None,
        additional_parameters=extra | profile.sbatch | ({} if is_array else profile.report_job),
    )  # fmt: skip
    if is_array:
        executor.parameters["map_count"] = array.count
    return executor


def array_body(submission: Submission, array: JobArray) -> str:
    """The part of the job script after the profile's setup, for each task of `array`."""
    folder = shlex.quote(str(submission.folder))
    lines = ["set -o pipefail", f"log={folder}/logs/${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}.log"]
    # Python refuses a pack without attempts left and records why, so it gets one start more.
    most, on_kill = submission.profile.max_attempts + 1, f"code={INTERRUPTED}"
    if submission.command:  # it has no record of its attempts
        lines.append(f"command=({shlex.join(submission.command)})")
        most -= 1
    else:
        lines += [
            f"mapfile -t shares < {folder}/packs.txt || exit 1",  # a node without this folder cannot train
            f"command=({shlex.join(job_command(submission))})",
            f"for pack in ${{shares[{array.first} + SLURM_ARRAY_TASK_ID]}}; do",
            f'  command+=({shlex.quote(str(submission.sweep_folder / "packs"))}/"$pack")',
            "done",
        ]
        if submission.profile.packs_per_job == 1:
            on_kill = 'run "${command[@]}" --record-kill $((code - 128))'
        else:  # of a share that is larger than what runs at once, the last packs have the last attempts
            most *= -(-max(len(packs) for _, _, packs in submission.tasks()) // submission.profile.packs_per_job)
    return "\n".join(lines) + "\n" + RUN.format(again=INTERRUPTED, on_kill=on_kill, most=most)


def job_command(submission: Submission) -> list[str]:
    """The command of a job, without the paths of its packs."""
    profile, several = submission.profile, submission.profile.packs_per_job > 1
    command = [sys.executable, "-m", f"slurm.jobs.{'train_packs' if several else 'train_pack'}"]
    command += ["--at-once", str(profile.packs_per_job)] if several else []
    command += ["--device", profile.job_device, "--commit-seconds", f"{profile.commit_seconds:g}"]
    command += ["--heartbeat-seconds", f"{HEARTBEAT_SECONDS:g}", "--submission", submission.name]
    command += ["--compile-cache", str(submission.sweep_folder / "compiled")]
    return [*command, "--max-attempts", str(profile.max_attempts)]


def report_body(submission: Submission) -> str:
    """The part of the script of the report job after the profile's setup."""
    return f"exec {shlex.join(report_command(submission))}"
