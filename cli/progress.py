"""Progress bars of `scorer run`, from the state files of the packs."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from scorer_core.records import PackFolder
from scorer_core.support.errors import RecordError
from scorer_core.support.text import count, duration
from slurm.jobs.launcher import LaunchState
from sweeps.layout import makespan
from sweeps.plan import PlannedPack

SECONDS_BETWEEN_LINES = 30.0  # where there is no terminal to draw bars on


class Speed(ProgressColumn):
    """Environment steps per second, of all lanes together."""

    def render(self, task: Task) -> Text:
        speed = task.fields.get("speed")
        return Text(f"{speed:,.0f} steps/s" if speed else "", style="progress.data.speed", justify="right")


class Remaining(ProgressColumn):
    """Remaining time: `to_go` in seconds, or if that is not given, at the current speed."""

    def render(self, task: Task) -> Text:
        speed, total, to_go = task.fields.get("speed"), task.total, task.fields.get("to_go")
        if to_go is None and speed and total is not None:
            to_go = (total - task.completed) / speed
        if task.finished or to_go is None:
            return Text("")
        minutes, seconds = divmod(int(to_go), 60)
        return Text(f"{minutes:d}:{seconds:02d} to go", style="progress.remaining", justify="right")


def progress(console: Console) -> Progress:
    """Bars with speed and remaining time. Descriptions are printed as they are, on several lines if they are long."""
    one_line = Column(no_wrap=True)
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=False, overflow="fold")),
        BarColumn(bar_width=16), TextColumn("{task.percentage:>3.0f}%", table_column=one_line),
        Speed(one_line), Remaining(one_line), console=console,
    )  # fmt: skip


class ProgressBars:
    """Progress bars of a plan: one for all lanes and environment steps, and one for each running pack."""

    def __init__(self, packs: Sequence[PlannedPack], console: Console):
        self._packs = {pack.folder: pack for pack in packs}
        self._steps = dict.fromkeys(self._packs, 0)
        self._progress = progress(console)
        self._all = self._progress.add_task("", total=sum(pack.env_steps for pack in packs))
        self._bars: dict[PackFolder, TaskID] = {}
        self._console, self._printed = console, time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def show(self, outcome: LaunchState) -> None:
        """Update the bars to `outcome`."""
        speed, running = 0.0, []
        for folder in outcome.running:
            pack = self._packs[folder]
            if folder not in self._bars:
                config = pack.configs[0]
                name = f"  {config.task.rpartition('/')[2]} {config.coupling} x {len(pack.configs)}"
                self._bars[folder] = self._progress.add_task(name, total=pack.env_steps)
            try:
                state = folder.state()
            except RecordError:
                state = {}  # read again in a moment
            if "step" in state:
                self._steps[folder] = state["step"] * len(pack.configs)
            now = state.get("steps_per_second") or 0.0
            speed += now
            left = pack.env_steps - self._steps[folder]
            running.append(left / now if now else pack.seconds * left / pack.env_steps)
            self._progress.update(self._bars[folder], completed=self._steps[folder], speed=now)
        for folder in [folder for folder in self._bars if folder not in outcome.running]:
            self._progress.remove_task(self._bars.pop(folder))
        for folder in outcome.finished:
            self._steps[folder] = self._packs[folder].env_steps
        done = sum(len(self._packs[folder].configs) for folder in outcome.finished)
        lanes = sum(len(pack.configs) for pack in self._packs.values())
        text = f"{done} of {count(lanes, 'lane')} done"
        waiting = [self._packs[folder].seconds for folder in outcome.waiting]
        to_go = makespan([*running, *waiting], max(1, len(running)))
        trained = sum(self._steps.values())
        self._progress.update(self._all, completed=trained, description=text, speed=speed, to_go=to_go)
        if not self._console.is_terminal and time.monotonic() - self._printed > SECONDS_BETWEEN_LINES:
            self._printed = time.monotonic()
            planned = sum(pack.env_steps for pack in self._packs.values())
            pace = f", {speed:,.0f} steps/s" if speed else ""
            self._console.print(f"{text}, {trained / planned:.0%} of the steps{pace}, about {duration(to_go)} to go")
