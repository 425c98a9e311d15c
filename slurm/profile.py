"""A profile: where and with what jobs run. YAML, one a cluster; every mistake is one line naming file and field."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from scorer_core.support.secrets import mask
from sweeps.errors import DefinitionError, one_line
from sweeps.reading import TextLoader, read_mapping

STORAGE_VARIABLE = "SCORER_STORAGE"  # as in sweeps.storage, which imports Optuna
SHIPPED = Path(__file__).parent / "profiles"
OURS = {
    "array",
    "signal",
    "job-name",
    "output",
    "error",
    "open-mode",
    "dependency",
    "requeue",
    "no-requeue",
    "parsable",
}
LINE = r"^[^\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]*$"  # no control character but the tab
SLURM_ONLY = ("partition", "account", "qos", "constraint", "gpus", "memory", "time", "throttle", "max_submit", "sbatch")


def minutes(written: Any) -> int:
    """Minutes, from any form that sbatch takes: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS.

    Raises:
        ValueError: if it is none of them.
    """
    text = str(written).strip()
    match = re.fullmatch(r"(?:(\d{1,5})-)?(\d{1,7})(?::(\d{1,5}))?(?::(\d{1,5}))?", text)
    if not match:
        raise ValueError(f"'{written}' is no time; write minutes, HH:MM:SS or D-HH:MM:SS")
    days, *rest = (None if group is None else int(group) for group in match.groups())
    given = [number for number in rest if number is not None]
    if days is not None:
        hours, minute, seconds = [*given, 0, 0][:3]
    elif len(given) == 3:
        hours, minute, seconds = given
    else:
        hours, (minute, seconds) = 0, [*given, 0][:2]
    total = ((days or 0) * 24 + hours) * 60 + minute + -(-seconds // 60)
    if total < 1:
        raise ValueError(f"'{written}' is less than a minute")
    return total


def _option(value: Any) -> Any:
    """The value of a key of sbatch, one line: a second line would be a command of the job's script.

    `true` is a bare flag.
    """
    if not isinstance(value, str | int | float) or not re.fullmatch(LINE, str(value)):
        raise ValueError("must be text on one line, a number or true")
    return True if value == "true" else value


def _value(value: Any) -> str:
    """A variable's value; only NUL cannot stand in an environment."""
    if not isinstance(value, str | int | float) or "\0" in str(value):
        raise ValueError("must be text or a number, without a NUL character")
    return str(value)


Minutes = Annotated[int, BeforeValidator(minutes)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Line = Annotated[str, Field(min_length=1, pattern=LINE)]
Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
Option = Annotated[Any, BeforeValidator(_option)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Profile(BaseModel):
    """What a cluster wants to be told, and how its jobs behave."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Line
    scheduler: Literal["slurm", "local"]

    partition: Line | None = None
    account: Line | None = None
    qos: Line | None = None
    constraint: Line | None = None
    gpus: Line | None = Field(default=None, description="for a job, a number or type:number")
    cpus: Count = 1
    memory: Annotated[str, Field(pattern=r"^\d+[KMGT]?$")] | None = Field(
        default=None, description="of a node, e.g. 8G"
    )
    time: Minutes = Field(default=60, description="of one attempt; a run that needs longer goes on in the next")
    throttle: Count | None = Field(default=None, description="jobs of a sweep running at a time, at most")
    max_submit: Count | None = Field(default=None, description="jobs queued at a time, where Slurm cannot be asked")
    sbatch: dict[Key, Option] = Field(default={}, description="further keys, verbatim")
    finaliser: dict[Key, Option] = Field(
        default={}, description="sbatch keys that differ for the job that draws the report, e.g. its partition"
    )

    setup: list[Line] = Field(
        default=[],
        description="shell lines before Python starts; a line that fails fails the job (`... || true` allows it)",
    )
    environment: dict[Name, Annotated[str, BeforeValidator(_value)]] = Field(
        default={}, description="variables of the job"
    )

    processes: Count | None = Field(default=None, description="local only: packs trained at a time; else one a core")
    device: Line = Field(default="auto", description="cpu, cuda, or auto: a GPU if the job sees one")
    lanes: Count | None = Field(
        default=None, description="runs of a pack, at most; else what suits this machine, or 30 on a cluster"
    )
    commit_seconds: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = Field(
        default=300.0, description="seconds between commits"
    )
    signal_seconds: Annotated[int, Field(ge=1, le=65535)] = Field(
        default=120, description="a job is told to commit so long before its time is over; Slurm may be a minute early"
    )
    max_attempts: Count = Field(default=20, description="starts of a job, requeues and preemptions included")

    @field_validator("sbatch", "finaliser", mode="before")
    @classmethod
    def _as_sbatch_spells_them(cls, keys: Any) -> Any:
        return {str(k).lstrip("-").replace("_", "-"): v for k, v in keys.items()} if isinstance(keys, dict) else keys

    @field_validator("sbatch", "finaliser")
    @classmethod
    def _not_ours(cls, keys: dict[str, Any]) -> dict[str, Any]:
        for key in keys:
            if key in OURS:
                raise ValueError(f"{key} is set by scorer itself")
        return keys

    @model_validator(mode="after")
    def _fits_its_scheduler(self) -> Self:
        foreign = SLURM_ONLY if self.scheduler == "local" else ("processes",)
        for field in foreign:
            if getattr(self, field) != type(self).model_fields[field].default:
                raise ValueError(f"{field}: means nothing where scheduler is {self.scheduler}")
        twins = {"time", "partition", "account", "qos", "constraint", "mem", "cpus-per-task", "gpus-per-node"}
        for key in self.sbatch.keys() & twins:
            ours = {"mem": "memory", "cpus-per-task": "cpus", "gpus-per-node": "gpus"}.get(key, key)
            raise ValueError(f"sbatch.{key}: belongs at the top, as `{ours}`")
        if self.scheduler == "slurm" and self.signal_seconds >= 60 * self.time:
            raise ValueError(f"signal_seconds: {self.signal_seconds} s leave nothing of {self.time} min")
        return self


def load_profile(name_or_path: str) -> Profile:
    """The profile called so: a path, the user's own (~/.config/scorer/profiles), or a shipped one.

    Raises:
        DefinitionError: if there is none, or it is not valid.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        found = [folder / f"{name_or_path}.yaml" for folder in (own_profiles(), SHIPPED)]
        path = next((path for path in found if path.is_file()), None)
        if path is None:
            raise DefinitionError(
                f"profile {name_or_path}: there is {', '.join(profiles())}; your own belong in {own_profiles()}"
            )
    raw = read_mapping(path, TextLoader)
    try:
        profile = Profile(
            **{"name": path.stem, **{key: value for key, value in raw.items() if value not in ("", "null")}}
        )
    except ValidationError as error:
        raise DefinitionError(f"{path}: {mask(one_line(error))}".replace("\n", "\\n")) from None
    if STORAGE_VARIABLE in profile.environment:
        raise DefinitionError(f"{path}: environment.{STORAGE_VARIABLE}: export it in your shell instead; jobs get it")
    return profile


def profiles() -> list[str]:
    """The names `load_profile` knows."""
    return sorted({path.stem for folder in (own_profiles(), SHIPPED) for path in folder.glob("*.yaml")})


def own_profiles() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "scorer" / "profiles"
