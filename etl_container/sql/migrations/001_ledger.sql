-- The ledger: the only truth about what is loaded. Written in the same transaction as the rows it tells of.

create table lake.objects (
    bucket      text        not null,
    key         text        not null,
    version     text        not null,
    ordinal     text        not null collate "C",
    dataset     text        not null,
    state       text        not null check (state in ('pending', 'loaded', 'superseded', 'failed', 'undone')),
    size        bigint      not null,
    digest      text,
    media_type  text,
    run_id      bigint,
    landed_at   timestamptz not null,
    changed_at  timestamptz not null default now(),
    primary key (bucket, key, version)
);
comment on table lake.objects is 'One row for each object version that a run has touched';
comment on column lake.objects.ordinal is 'Orders the versions of a key: the newest put has the greatest';
comment on column lake.objects.run_id is 'The run that decided the state';
create unique index objects_one_loaded on lake.objects (bucket, key) where state = 'loaded';

create table lake.runs (
    id          bigint      generated always as identity primary key,
    kind        text        not null default 'load' check (kind in ('load', 'restore')),
    bucket      text        not null,
    key         text        not null,
    version     text        not null,
    dataset     text        not null,
    table_name  text        not null,
    state       text        not null
                check (state in ('running', 'loaded', 'already_loaded', 'superseded', 'failed', 'undone')),
    rows        bigint,
    rejects     bigint,
    started_at  timestamptz not null default clock_timestamp(),
    seconds     double precision,
    error       text,
    hint        text,
    exit_code   integer,
    retryable   boolean,
    transform   text,
    source      jsonb,
    notes       jsonb       not null default '[]',
    changes     jsonb       not null default '[]',
    timings     jsonb,
    replaced    bigint[]    not null default '{}'
);
comment on table lake.runs is 'One row for each attempt to process one object version';
comment on column lake.runs.source is 'How the object was read: format, encoding, dialect, labels';
comment on column lake.runs.replaced is 'The runs whose rows this one took away, for undo';
create index runs_of_key on lake.runs (bucket, key, state);
create index runs_running on lake.runs (id) where state = 'running';

create table lake.rejects (
    id          bigint      generated always as identity primary key,
    run_id      bigint      not null references lake.runs (id) on delete cascade,
    record      bigint,
    line        bigint,
    column_name text,
    value       text,
    reason      text        not null,
    text        text
);
comment on table lake.rejects is 'Records that could not become rows, with their original text';
create index rejects_of_run on lake.rejects (run_id);

create table lake.mended (
    bucket      text    not null,
    key         text    not null,
    version     text    not null,
    record      bigint  not null,
    cells       jsonb   not null,
    run_id      bigint,
    primary key (bucket, key, version, record)
);
comment on table lake.mended is 'Records that a user mended after their reject; they stand in for the broken ones at every load';
comment on column lake.mended.cells is 'The text of each cell, by position of the column';
comment on column lake.mended.run_id is 'The first run that loaded them; undoing it forgets them';

create table lake.columns (
    table_name  text    not null,
    column_name text    not null,
    position    integer not null,
    label       text    not null,
    only_nulls  boolean not null,
    first_run   bigint  not null,
    primary key (table_name, column_name)
);
comment on table lake.columns is 'The columns that loads created, with the label that each has in the files';
comment on column lake.columns.only_nulls is 'No value was ever seen: the type is still open';
