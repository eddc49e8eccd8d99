"""Commands that load: upload, run-local, run."""

from __future__ import annotations

from typing import Annotated

import typer

from lakectl.cli.common import session_of

DatasetOption = Annotated[
    str | None, typer.Option("--dataset", "-d", metavar="NAME", help="The dataset, instead of the file's own.")
]


def upload(
    ctx: typer.Context,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH...", help="Files, directories, globs, or - for standard input.")
    ] = None,
    dataset: DatasetOption = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="FILE", help="What to call standard input: trips.csv")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until each file is loaded, or only land them.")
    ] = True,
    watch: Annotated[
        str | None,
        typer.Option("--watch", metavar="DIR", help="Load what is in DIR and what appears there, until Ctrl-C."),
    ] = None,
    unpack: Annotated[
        bool, typer.Option("--unpack", help="Land also the members of archives and the attachments of e-mails.")
    ] = False,
) -> None:
    """Land files in the raw zone and load them into tables.

    A file lands as raw/DATASET/FILE and its rows go to the table DATASET, named after the file. The files of a
    directory go to one table named after it, those of its subfolders to one table per folder. The same file again
    changes nothing; a changed file replaces the rows of its older version.

    One file that fails does not stop the others; the exit code tells of the worst failure.

    On a stage in an account, each hop is told with its seconds from the beginning: put, event, task, run, rows. In
    JSON they are "hops".

    Examples:
        lakectl upload flights.csv
        lakectl upload 2024/*.csv.gz --dataset trips
        curl -s https://example.org/trips.csv | lakectl upload - --name trips.csv
        lakectl upload --watch inbox/
        lakectl upload photos.zip mail/ --unpack

    JSON:
        {"objects": [{"key", "version", "dataset", "table",
                      "state": "loaded|already_loaded|superseded|failed|pending",
                      "rows", "rejects", "seconds", "run", "error", "hint", "changes", "notes", "hops"}]}
        "pending" only with --no-wait.
    """
    from lakectl import landing
    from lakectl.cli import loading
    from lakectl.errors import UsageError

    session = session_of(ctx)
    if bool(paths) == bool(watch):
        raise UsageError(
            "name the files to upload, or a directory to --watch, and not both", hint="lakectl upload flights.csv"
        )
    lake = session.lake()
    if watch is not None:
        with session.target(lake) as target:
            raise typer.Exit(loading.watch(session.screen, target, lake, watch, dataset, unpack))
    uploads = landing.plan(paths or [], dataset=dataset, name=name)
    with session.target(lake) as target, loading.with_contents(lake, uploads, unpack) as (found, refused):
        show = loading.land_and_load if wait else loading.land_only
        raise typer.Exit(show(session.screen, target, lake, found, refused))


def run_local(
    ctx: typer.Context,
    subjects: Annotated[
        list[str] | None, typer.Argument(metavar="PATH|KEY...", help="Files, or keys of objects that are in the lake.")
    ] = None,
    dataset: DatasetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Load nothing; show what would happen.")] = False,
    warehouse: Annotated[
        str | None, typer.Option("--warehouse", metavar="DSN", help="Load into this PostgreSQL instead of the stage's.")
    ] = None,
    container: Annotated[
        bool, typer.Option("--container", help="Run the stage's deployed image instead of this process.")
    ] = False,
) -> None:
    """Run the ETL here, on files or on objects of the lake.

    A file or a directory is landed and loaded like upload does, a key names an object that is in the lake already.
    A folder of the raw zone (raw/trips/), or no argument, stands for all that it has and the ledger lacks.

    On a stage in an account the objects come from its bucket through this machine. Its database has no way in from
    outside, so the rows go to the warehouse of stage local, or to --warehouse.

    Examples:
        lakectl run-local flights.csv --dry-run
        lakectl run-local raw/flights/flights.csv
        lakectl run-local
        lakectl run-local flights.csv --warehouse postgresql://me@db.example.org/analytics
        lakectl run-local --stage dev s3://lake-flights-dev-raw-123456789012-eu-west-1/raw/trips/new.csv --dry-run
        lakectl run-local --stage dev raw/trips/new.csv --container

    JSON:
        {"objects": [{"key", "version", "dataset", "table", "state", "rows", "rejects",
                      "seconds", "run", "error", "hint", "changes", "notes", "hops"}]}
    """
    from lakectl.cli import loading

    session = session_of(ctx)
    lake = session.lake()
    with session.target(lake) as target:
        raise typer.Exit(
            loading.run_local(
                session.screen,
                target,
                lake,
                subjects or [],
                dataset=dataset,
                dry_run=dry_run,
                warehouse=warehouse,
                container=container,
            )
        )


def run(
    ctx: typer.Context,
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY...", help="Keys of objects.")] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", metavar="NAME", help="Only the objects of this dataset.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="The objects whose last run failed.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every object, loaded or not: rebuild the tables.")] = False,
) -> None:
    """Process objects of the raw zone, also again.

    Without any argument: what the raw zone has and the ledger lacks.

    Examples:
        lakectl run
        lakectl run --failed
        lakectl run --all --dataset trips
        lakectl run raw/trips/2024-01.csv

    JSON:
        {"objects": [{"key", "version", "dataset", "table", "state", "rows", "rejects",
                      "seconds", "run", "error", "hint", "changes", "notes", "hops"}]}
    """
    from lakectl.cli import loading
    from lakectl.errors import UsageError

    session = session_of(ctx)
    if keys and (failed or everything):
        raise UsageError("name keys, or say --failed or --all, and not both", hint="lakectl run --failed")
    lake = session.lake()
    with session.target(lake) as target:
        chosen = target.select(keys=keys or [], dataset=dataset, failed=failed, everything=everything)
        again = bool(keys or failed or everything or dataset)
        raise typer.Exit(loading.load(session.screen, target, chosen, again=again))
