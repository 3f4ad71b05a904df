"""How Clew's commands load, refuse and explain themselves.

A group knows its commands by name and a sentence, and imports one only when it is called, so that
``clew --help`` waits for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

import click

from clew.errors import did_you_mean

F = TypeVar("F", bound=Callable[..., Any])


class Reference(NamedTuple):
    """Where a command lives (``module:name``), and the first line of its help."""

    home: str
    sentence: str

    def load(self) -> click.Command:
        module, _, name = self.home.partition(":")
        command = getattr(import_module(module), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{self.home} is {command!r}, but it must be a command")
        return command


class PurposeOption(click.Option):
    """An option that stands in its command's help under what it is for."""

    def __init__(self, *args: Any, purpose: str = "Output", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.purpose = purpose

    def get_help_extra(self, ctx: click.Context) -> Any:
        extra = super().get_help_extra(ctx)
        # "0<=x<=2147483647" tells nobody anything; a value outside is refused with the range.
        extra.pop("range", None)
        return extra


def option(*names: str, purpose: str, help: str, **more: Any) -> Callable[[F], F]:  # noqa: A002
    """``click.option`` with a purpose; the default is shown."""
    return click.option(*names, cls=PurposeOption, purpose=purpose, help=help, show_default=True, **more)


class Explained(click.Command):
    """A command whose help goes: a sentence, an example to paste, usage, the rest."""

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def get_help_option_names(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return ["-h", "--help"]

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sentence, _, details = (self.help or "").partition("\n\n")
        formatter.write(f"{' '.join(sentence.split())}\n\nExample:\n  {self.example}\n\n")
        self.format_usage(ctx, formatter)
        if details:
            self._format_details(details, formatter)
        self.format_options(ctx, formatter)

    def _format_details(self, details: str, formatter: click.HelpFormatter) -> None:
        for paragraph in details.split("\n\n"):
            formatter.write_paragraph()
            formatter.write_text(" ".join(paragraph.split()))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        by_purpose: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                by_purpose.setdefault(getattr(parameter, "purpose", "Output"), []).append(record)
        # What shapes the output comes last, whatever order the decorators stand in.
        for purpose in sorted(by_purpose, key=lambda name: name == "Output"):
            with formatter.section(purpose):
                formatter.write_dl(by_purpose[purpose])


class Verbs(Explained, click.Group):
    """A group of commands that are imported when they are called."""

    def __init__(
        self,
        *args: Any,
        references: Mapping[str, Reference] | None = None,
        purposes: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.references = dict(references or {})
        self.purposes = dict(purposes or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.references, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.references:
            return self.references[cmd_name].load()
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-"):
            hint = did_you_mean(args[0], known)
            raise click.UsageError(f"{ctx.command_path} has no command {args[0]!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for purpose, names in (self.purposes or {"Commands": self.list_commands(ctx)}).items():
            with formatter.section(purpose):
                formatter.write_dl([(name, self._sentence(ctx, name)) for name in names])
        Explained.format_options(self, ctx, formatter)

    def _sentence(self, ctx: click.Context, name: str) -> str:
        if name in self.references:
            return self.references[name].sentence
        command = self.get_command(ctx, name)
        return command.get_short_help_str(limit=100) if command else ""
