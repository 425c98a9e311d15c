"""How `--help` shows options and arguments: a flag without a value, all others with a word in capitals.

typer would print Python types, such as `<bool>` for a flag and `<list[Path]>` for files.
"""

from copy import copy
from inspect import cleandoc
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


def _nothing(**_: Any) -> None:
    """What `param.display_type_rich(ctx=...)` returns if there is no type to show."""


def without_types(params: list[Any]) -> list[Any]:
    """The same parameters; the help of a flag or an argument shows no type. Other options have a metavar."""
    for param in params:
        if param.param_type_name == "argument":
            param.display_type_rich = _nothing
        elif param.is_flag:
            param.metavar = ""
    return params


def _in_one_form(param: Any) -> Any:
    """A switch with the form only that changes its default; any other parameter as it is."""
    if not param.secondary_opts:
        return param
    switch = copy(param)
    switch.opts = switch.secondary_opts if switch.default else switch.opts
    switch.secondary_opts, switch.show_default = [], False
    return switch


def _unwrapped(text: str) -> str:
    """One line per paragraph, because typer keeps the line breaks of the source; a table begins with a backspace."""
    paragraphs = cleandoc(text).split("\n\n")
    return "\n\n".join(p if p.startswith("\b") else p.replace("\n", " ") for p in paragraphs)


class Command(TyperCommand):
    """A command whose help shows one form of each switch: the one that changes the default."""

    def get_params(self, ctx: Any) -> Any:
        return without_types(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        shown = copy(self)  # the command itself accepts both forms
        shown.params = [_in_one_form(param) for param in self.params]
        shown.help = _unwrapped(self.help or "")
        super(Command, shown).format_help(ctx, formatter)


class Group(TyperGroup):
    """A group of commands, with the same kind of help."""

    def get_params(self, ctx: Any) -> Any:
        return without_types(super().get_params(ctx))


class App(typer.Typer):
    """typer.Typer for commands with this help."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"cls": Group, **settings})

    def command(self, name: str | None = None, **settings: Any) -> Any:
        return super().command(name, **{"cls": Command, **settings})
