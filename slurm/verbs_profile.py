"""Verbs on profiles: the doctor."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from slurm.doctor import Finding, examine
from slurm.probe import look
from slurm.profile import load_profile
from sweeps.terminal import DEFAULT_OUTPUTS, FAILED, AsJson, Outputs, err, out, print_json

profile_app = typer.Typer(help="Where jobs run: check a cluster against a profile.", no_args_is_help=True)
MARKS = {"ok": "[green]ok[/]     ", "note": "[yellow]note[/]   ", "problem": "[red]problem[/]"}


@profile_app.callback()
def _group() -> None:
    """Where jobs run: check a cluster against a profile."""


@profile_app.command(epilog="Example: scorer profile check my-cluster --probe")
def check(
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="A name, or the path of a YAML file.")],
    outputs: Outputs = DEFAULT_OUTPUTS,
    probe: Annotated[bool, typer.Option("--probe", help="Also submit a small job that looks from inside.")] = False,
    wait: Annotated[float, typer.Option(min=1, help="Seconds to wait for the probe, at most.")] = 600.0,
    as_json: AsJson = False,
) -> None:
    """Say what a cluster allows and does to jobs, whether the profile fits, and what to do about each finding."""
    loaded = load_profile(profile)
    findings = examine(loaded)
    if not as_json:
        _show(findings)
    if probe and loaded.scheduler == "slurm" and not any(finding.subject == "slurm" and finding.level == "problem"
                                                         for finding in findings):  # fmt: skip
        with err.status("the probe") as waiting:
            seen = look(loaded, outputs, wait, lambda told: waiting.update(f"the probe: {told}"))
        if not as_json:
            _show(seen)
        findings += seen
    if as_json:
        print_json([asdict(finding) for finding in findings])
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(FAILED)


def _show(findings: list[Finding]) -> None:
    for finding in findings:
        line = f"{MARKS[finding.level]} {finding.subject}: {escape(finding.found)}"
        out.print(line, highlight=False, soft_wrap=True)
        if finding.advice:
            out.print(f"        {escape(finding.advice)}", highlight=False, soft_wrap=True)
