"""Commands that operate a stage in AWS: logs, retry, cost, iam."""

from __future__ import annotations

from typing import Annotated

import typer

from lakectl.cli.common import LakeCommand, LakeGroup, session_of


def logs(
    ctx: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as new lines come, until Ctrl-C.")] = False,
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="Only the task that made this run.")] = None,
    since: Annotated[str, typer.Option("--since", metavar="AGE", help="How far back: 90s, 30m, 2h, 3d.")] = "1h",
    raw: Annotated[bool, typer.Option("--raw", help="The lines as they are, not their gist.")] = False,
) -> None:
    """Show what the dispatcher and the tasks have said, in the order of time.

    Examples:
        lakectl logs
        lakectl logs -f
        lakectl logs --run 42
        lakectl logs --since 2d --raw

    JSON:
        [{"at", "group", "stream", "text"}]    not with --follow, which prints one such object a line
    """
    from lakectl.cli import operating

    session = session_of(ctx)
    operating.logs(
        session.screen, operating.aws_lake(session.lake()), follow=follow, run=run, age=operating.age(since), raw=raw
    )


def retry(
    ctx: typer.Context,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="KEY...", help="Only the events of these objects.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="List what is parked; change nothing.")] = False,
) -> None:
    """Send parked events back to the dispatcher, after their cause is mended.

    An event is parked when its load has failed three times, or cannot succeed by trying again.

    Examples:
        lakectl retry --list
        lakectl retry
        lakectl retry raw/trips/2024-01.csv

    JSON:
        {"retried"}; with --list {"parked": [{"id", "keys", "cause", "body"}]}
    """
    from lakectl.cli import operating

    session = session_of(ctx)
    operating.retry(session.screen, operating.aws_lake(session.lake()), keys or [], show=show)


def cost(ctx: typer.Context) -> None:
    """Say what the stage costs in a month when nothing happens, and what work costs.

    List prices; nothing is asked of the account.

    Examples:
        lakectl cost
        lakectl cost --stage prod --json

    JSON:
        {"stage", "region", "as_of", "monthly_idle_usd", "items": [{"what", "monthly_usd", "why"}],
         "work": [{"what", "usd", "why"}]}
    """
    from lakectl.cli import deploying, operating

    session = session_of(ctx)
    operating.cost(session.screen, deploying.stage_of(session.lake()))


iam_app = typer.Typer(
    cls=LakeGroup, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True
)


@iam_app.callback()
def iam() -> None:
    """Print the rights that people need.

    Examples:
        lakectl iam policy > deployer.json
    """


@iam_app.command("policy", cls=LakeCommand)
def iam_policy(
    ctx: typer.Context,
    operator: Annotated[
        bool, typer.Option("--operator", help="For the daily commands; without it, for deploy and destroy.")
    ] = False,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write both there, in parts that IAM takes."),
    ] = None,
) -> None:
    """Print a least-privilege policy for this stage, as IAM takes it.

    Who deploys needs both. Nothing is asked of the account: it may be unknown yet. The deployer's is longer than a
    managed policy may be (6,144 characters): --output writes it in parts.

    Examples:
        lakectl iam policy --stage dev > deployer.json
        lakectl iam policy --stage dev --operator > operator.json
        lakectl iam policy --stage dev --output policies/

    JSON:
        the policy: {"Version", "Statement": []}; with --output {"directory", "files": []}
    """
    from lakectl.cli import deploying, operating

    session = session_of(ctx)
    lake = deploying.stage_of(session.lake())
    if output is not None:
        operating.write_policies(session.screen, lake, output)
        return
    operating.policy(lake, operator=operator)
