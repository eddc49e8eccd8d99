-- The frame that the migrations stand in. Safe to run again.

create schema if not exists lake;
comment on schema lake is 'The ledger of lakectl: what is loaded, from where, by which run';

create table if not exists lake.migrations (
    number     integer     primary key,
    applied_at timestamptz not null default now()
);
comment on table lake.migrations is 'The migrations that were applied, in etl_container/sql/migrations';
