"""Commands that make and unmake a stage in AWS: deploy, rollback, destroy."""

from __future__ import annotations

from typing import Annotated

import typer

from lakectl.cli.common import session_of


def deploy(
    ctx: typer.Context,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show what would be done; needs no rights beyond reading.")
    ] = False,
    render: Annotated[
        str | None,
        typer.Option("--render", metavar="DIR", help="Only write the templates and parameters there, without AWS."),
    ] = None,
    build_with: Annotated[
        str | None,
        typer.Option("--build-with", metavar="NAME", help="docker, podman, finch, buildah or codebuild."),
    ] = None,
    skip_canary: Annotated[bool, typer.Option("--skip-canary", help="Do not send a canary at the end.")] = False,
) -> None:
    """Create or update the lake in AWS.

    Looks at the account, shows the plan with its monthly idle cost, asks, and carries it out: stacks, image, database,
    and a canary that travels the whole way. Without a change it does nothing. Interrupted, the same command goes on.
    --stage names the stage (dev when none was deployed yet); its settings are [stage.NAME] in lake.toml.

    Examples:
        lakectl deploy --plan
        lakectl deploy --stage prod --profile work --region eu-central-1
        lakectl deploy --yes --build-with codebuild
        lakectl deploy --render templates/

    JSON:
        {"stage", "account", "region", "changed", "steps": [{"step", "sentence", "seconds"}],
         "diff": [{"action", "resource", "type", "replaces", "properties": [{"path", "before", "after"}]}],
         "notes": [], "monthly_idle_usd"}
        With --plan "seconds" is null.
    """
    from lakectl.cli import deploying

    session = session_of(ctx)
    lake = deploying.stage_of(session.lake())
    if render is not None:
        deploying.write_templates(session.screen, lake, render)
        return
    deploying.deploy(
        session.screen, lake, only_plan=plan, build_with=build_with, yes=session.yes, skip_canary=skip_canary
    )


def rollback(
    ctx: typer.Context,
    which: Annotated[
        str | None, typer.Argument(metavar="TIME", help="Which deploy, by the beginning of its time.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="List the deploys there were.")] = False,
) -> None:
    """Go back to the previous deploy.

    Its image, transforms, dispatcher and template are put in force again. The tables
    stay as they are. What you go back from is not lost: deploy brings it again.

    Examples:
        lakectl rollback
        lakectl rollback --list
        lakectl rollback 2026-11-20T10

    JSON:
        the same as deploy; with --list
        [{"at", "by", "lakectl", "image", "bundle", "handler", "template", "engine_version"}]
    """
    from lakectl.cli import deploying

    session = session_of(ctx)
    lake = deploying.stage_of(session.lake())
    if show:
        deploying.show_history(session.screen, lake)
        return
    deploying.rollback(session.screen, lake, which, yes=session.yes)


def destroy(
    ctx: typer.Context,
    keep_data: Annotated[
        bool, typer.Option("--keep-data", help="Keep the buckets and a final snapshot of the database.")
    ] = False,
    confirm: Annotated[
        str | None, typer.Option("--confirm", metavar="NAME", help="The stage's name, instead of typing it.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be done.")] = False,
) -> None:
    """Delete the stage from AWS: stop, empty, delete, and look for what is left.

    Asks for the stage's name. With --keep-data the next deploy takes the kept buckets back in.

    Examples:
        lakectl destroy --stage dev
        lakectl destroy --stage dev --keep-data
        lakectl destroy --stage dev --confirm dev

    JSON:
        {"stage", "account", "region", "steps": [{"step", "sentence", "seconds"}], "kept": [], "survivors": []}
    """
    from lakectl.cli import deploying

    session = session_of(ctx)
    lake = session.lake()
    raise typer.Exit(
        deploying.destroy(session.screen, lake, keep_data=keep_data, confirm=confirm, only_plan=plan, yes=session.yes)
    )
