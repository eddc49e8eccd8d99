"""Commands about the project itself: init, doctor, config."""

from __future__ import annotations

from typing import Annotated

import typer

from lakectl.cli.common import LakeCommand, LakeGroup, session_of


def init(
    ctx: typer.Context,
    where: Annotated[str, typer.Argument(metavar="DIR", help="Where; created when it is not there.")] = ".",
) -> None:
    """Scaffold a lake: lake.toml, transforms/ and .gitignore.

    Nothing that exists is overwritten. No lake needs it: upload and query work in an empty directory.

    Examples:
        lakectl init
        lakectl init my-lake --no-input

    JSON:
        {"directory", "created": ["lake.toml"], "kept": [".gitignore"]}
    """
    from lakectl import scaffold

    session = session_of(ctx)
    answers = scaffold.Answers(
        name=session.screen.ask("name of the lake", scaffold.default_name(where)),
        warehouse=session.screen.ask("warehouse: embedded, or postgresql://…", "embedded"),
    )
    made = scaffold.create(where, answers)
    if session.json:
        session.screen.document({"directory": made.directory, "created": made.created, "kept": made.kept})
        return
    for name in made.created:
        session.screen.line(f"created  {name}")
    for name in made.kept:
        session.screen.line(f"kept     {name}")
    session.screen.remark("next: lakectl upload FILE")


def doctor(ctx: typer.Context) -> None:
    """Check that the lake has what it needs.

    Ordered checks; each one that fails names its fix. Exits 0 when all is well, 5 when a check failed.

    Examples:
        lakectl doctor
        lakectl doctor --json

    JSON:
        {"ok", "checks": [{"name", "ok", "detail", "fix"}]}
    """
    from lakectl import checks, shapes, targets

    session = session_of(ctx)
    made = []
    for check in checks.all_checks(session.lake, targets.open_target):
        made.append(check)
        if not session.json:
            session.screen.line(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}")
            if check.fix and not check.ok:
                session.screen.line(f"      fix: {check.fix}")
    failed = sum(not check.ok for check in made)
    if session.json:
        session.screen.document({"ok": not failed, "checks": [shapes.check(check) for check in made]})
    raise typer.Exit(5 if failed else 0)


config_app = typer.Typer(
    cls=LakeGroup, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True
)


@config_app.callback()
def config() -> None:
    """Show the settings in force.

    Examples:
        lakectl config show
    """


@config_app.command("show", cls=LakeCommand)
def config_show(ctx: typer.Context) -> None:
    """Print each setting in force and where it comes from; passwords are masked.

    Examples:
        lakectl config show
        LAKE_STAGE=dev lakectl config show --json

    JSON:
        {"settings": [{"key", "value", "origin"}], "datasets": {"NAME": {"table", "mode", "schema_policy"}},
         "stages": ["dev"]}
    """
    session = session_of(ctx)
    lake = session.lake()
    if session.json:
        session.screen.document(
            {
                "settings": [{"key": s.key, "value": s.value, "origin": s.origin} for s in lake.settings],
                "datasets": {
                    name: {"table": dataset.table, "mode": str(dataset.mode), "schema_policy": str(dataset.policy)}
                    for name, dataset in lake.datasets.items()
                },
                "stages": sorted(lake.stages),
            }
        )
        return
    session.screen.table(("setting", "value", "origin"), [(s.key, s.value, s.origin) for s in lake.settings])
    if lake.datasets:
        session.screen.line()
        session.screen.table(
            ("dataset", "table", "mode", "schema policy"),
            [(name, dataset.table, dataset.mode, dataset.policy) for name, dataset in lake.datasets.items()],
        )
