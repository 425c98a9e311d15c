"""The form of each JSON record of a pack, checked when it is read; fields of a newer version are ignored. No torch."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, AliasChoices, BaseModel, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from scorer_core import identity
from scorer_core.support.errors import RecordError

Record = TypeVar("Record")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _time(value: str) -> str:
    if datetime.fromisoformat(value).tzinfo is None:
        raise ValueError("has no time zone")
    return value


Time = Annotated[str, AfterValidator(_time)]  # as `now` writes it
Whole = Annotated[int, Field(ge=0, lt=2**63)]


class PackHead(BaseModel):
    """pack.json, except its runs."""

    schema_version: Annotated[int, Field(alias="schema")] = 1  # of the run ids
    compiled: bool = False
    eager_allowed: bool = False  # may its first attempt train without torch.compile, where no compiler is?
    halved_from: str | None = None

    @property
    def of_version_1(self) -> bool:
        """Did version 0.1 write it? Its run ids are of another schema, and its returns count 0 before an episode."""
        return self.schema_version < identity.SCHEMA_VERSION


class PackRecord(PackHead):
    """pack.json"""

    runs: dict[str, dict[str, Any]] = {}


class Unread(TypedDict):
    """An object of which nothing is read."""


class PackOutline(PackHead):
    """pack.json without the settings of its runs: reading it takes a third of the time."""

    runs: dict[str, Unread] = {}


class RunResult(BaseModel):
    """One run in done.json."""

    status: Literal["done", "diverged", "pruned", "failed", "divided"]  # the last three are of a search
    verdicts: list[str] = []


class DoneRecord(BaseModel):
    """done.json"""

    finished: str = ""
    runs: dict[str, RunResult]
    parts: dict[str, str] | None = None  # SHA-256 of each metrics part; version 0.1 did not record it


class StateRecord(BaseModel):
    """state.json"""

    time: Time
    host: str = ""
    pid: int = 0
    phase: str = ""
    step: Whole = 0
    total_steps: Whole = 0
    lanes: Whole = 0
    steps_per_second: float | None = None
    attempt: int = 0
    device_name: str = ""
    submission: str = Field(default="", validation_alias=AliasChoices("submission", "series"))  # version 0.1: series
    starts: list[int] = []
    error: str = ""


class EagerRecord(BaseModel):
    """eager.json"""

    because: str


class HalvedRecord(BaseModel):
    """halved.json"""

    into: list[str]


def read_record(path: Path, kind: type[Record]) -> Record | None:
    """The content of `path`, checked; None if there is no such file.

    Raises:
        RecordError: if the file cannot be read or has another form; the message names the file and the field.
    """
    try:
        return _reader(kind).validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise RecordError(f"{path}: {first_fault(error)}") from None


@cache
def _reader(kind: type[Record]) -> TypeAdapter[Record]:
    return TypeAdapter(kind)


def first_fault(error: ValidationError) -> str:
    """The first fault that pydantic found, in one line: the field, then what is wrong with it."""
    fault = error.errors(include_url=False)[0]
    field = "".join(f"{part}: " for part in [".".join(map(str, fault["loc"]))] if part)
    message = " ".join(fault["msg"].removeprefix("Value error, ").split())
    if fault["type"] == "json_invalid":
        return f"cannot be read: {message}"
    if fault["type"] == "extra_forbidden":
        return f"unknown field {field.removesuffix(': ')}; written by a newer version?"
    return f"{field}{message[:1].lower()}{message[1:]}"
