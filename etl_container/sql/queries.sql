-- name: ledger_exists
-- Whether the ledger's frame is there.
select to_regclass('lake.migrations') is not null

-- name: newest_migration
-- The number of the newest applied migration.
select coalesce(max(number), 0) from lake.migrations

-- name: record_objects
-- Object versions that runs touch, unless they are known; in one order, so that no two loads wait for one another.
insert into lake.objects (bucket, key, version, ordinal, dataset, state, size, digest, media_type, landed_at)
select %(bucket)s, key, version, ordinal, %(dataset)s, 'pending', size, digest, media_type, landed
from jsonb_to_recordset(%(objects)s)
     as o (key text, version text, ordinal text, size bigint, digest text, media_type text, landed timestamptz)
order by key, version
on conflict (bucket, key, version) do nothing

-- name: begin_runs
-- New runs; visible to others at once, since they are committed before the load begins.
insert into lake.runs (kind, bucket, key, version, dataset, table_name, state)
select %(kind)s, %(bucket)s, key, version, %(dataset)s, %(table)s, 'running'
from unnest(%(keys)s::text[], %(versions)s::text[]) with ordinality as o (key, version, number) order by number
returning id, key, version

-- name: hold_runs
-- Says "these runs are alive" for as long as the connection lives; bury_dead_runs asks.
select pg_advisory_lock(%(space)s, mod(run, 2147483648)::integer) from unnest(%(runs)s::bigint[]) as run

-- name: release_runs
-- These runs need no sign of life any more.
select pg_advisory_unlock(%(space)s, mod(run, 2147483648)::integer) from unnest(%(runs)s::bigint[]) as run

-- name: bury_dead_runs
-- Runs whose connection is gone without an end are failed.
update lake.runs set state = 'failed', exit_code = 1, retryable = true, rows = 0,
       error = 'the process that ran it died', hint = 'run it again: lakectl run ' || key
where state = 'running'
  and not exists (select from pg_locks
                  where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
                    and classid = %(space)s and objid = mod(lake.runs.id, 2147483648) and objsubid = 2 and granted)
returning id

-- name: fail_objects_of_runs
-- Objects of failed runs, where no run has loaded them; of two runs the later one decides.
update lake.objects o set state = 'failed', run_id = r.id, changed_at = now()
from lake.runs r
where r.id = any(%(runs)s) and (o.bucket, o.key, o.version) = (r.bucket, r.key, r.version)
  and o.state in ('pending', 'failed') and coalesce(o.run_id, 0) <= r.id

-- name: lock_keys
-- One load of a key at a time; keys are locked in one order, so that no two loads wait for one another.
select pg_advisory_xact_lock(hashtextextended(%(bucket)s || '/' || key, 1))
from (select key from unnest(%(keys)s::text[]) as key order by key collate "C" offset 0) as ordered

-- name: lock_table
-- One load at a time may change a table's shape.
select pg_advisory_xact_lock(hashtextextended(%(table)s, 2))

-- name: loaded_versions
-- The versions of some keys that are loaded: one of each at the most.
select key, version, ordinal, digest, run_id from lake.objects
where bucket = %(bucket)s and key = any(%(keys)s::text[]) and state = 'loaded'

-- name: runs_with_rows
-- The runs of some keys whose rows are in the table.
select key, version, id from lake.runs
where bucket = %(bucket)s and key = any(%(keys)s::text[]) and state = 'loaded' order by id

-- name: undo_run
-- A run whose rows were taken away on purpose, and the object version it had decided.
with undone as (update lake.runs set state = 'undone' where id = %(run)s returning id)
update lake.objects set state = 'undone', changed_at = now() where run_id in (select id from undone) and state = 'loaded'

-- name: newer_run_of_key
-- The run that replaced the rows of a superseded one.
select id from lake.runs where bucket = %(bucket)s and key = %(key)s and %(run)s = any(replaced) order by id desc limit 1

-- name: versions_of_runs
-- The object versions that some runs had loaded, oldest first, each with the newest of those runs.
select o.bucket, o.key, o.version, max(r.id) from lake.runs r
join lake.objects o on (o.bucket, o.key, o.version) = (r.bucket, r.key, r.version)
where r.id = any(%(runs)s) group by o.bucket, o.key, o.version, o.ordinal order by o.ordinal

-- name: runs_of_table
-- The runs whose rows are in a table.
select id from lake.runs where table_name = %(table)s and state = 'loaded' order by id

-- name: supersede_runs
-- Runs whose rows are gone, and the object versions that they loaded.
with gone as (update lake.runs set state = 'superseded' where id = any(%(runs)s) and state = 'loaded' returning id)
update lake.objects set state = 'superseded', changed_at = now()
where state = 'loaded' and run_id in (select id from gone)

-- name: supersede_versions
-- Older loaded versions of some keys make place for those that are loaded now.
update lake.objects o set state = 'superseded', changed_at = now()
from unnest(%(keys)s::text[], %(versions)s::text[]) as now_loaded (key, version)
where o.bucket = %(bucket)s and o.key = now_loaded.key and o.version <> now_loaded.version and o.state = 'loaded'

-- name: newest_with_rows
-- The newest version of a key that has rows in the table, and the run that brought them.
select o.version, r.id from lake.runs r join lake.objects o using (bucket, key, version)
where r.bucket = %(bucket)s and r.key = %(key)s and r.state = 'loaded' order by o.ordinal desc, r.id desc limit 1

-- name: finish_runs
-- The ends of runs, with all that they have to say. A run that is loaded stays so, whatever happens to its process.
update lake.runs r set state = o.state, rows = o.rows, rejects = o.rejects, seconds = o.seconds,
       error = o.error, hint = o.hint, exit_code = o.exit_code, retryable = o.retryable, transform = o.transform,
       source = coalesce(o.source, r.source), notes = o.notes, changes = o.changes, timings = o.timings,
       replaced = o.replaced
from jsonb_to_recordset(%(outcomes)s)
     as o (run bigint, state text, rows bigint, rejects bigint, seconds double precision, error text, hint text,
           exit_code integer, retryable boolean, transform text, source jsonb, notes jsonb, changes jsonb,
           timings jsonb, replaced bigint[])
where r.id = o.run and r.state in ('running', 'failed')

-- name: decide_objects
-- The state of some object versions, and the runs that decided it.
update lake.objects o set state = %(state)s, run_id = decided.run, changed_at = now()
from unnest(%(keys)s::text[], %(versions)s::text[], %(runs)s::bigint[]) as decided (key, version, run)
where o.bucket = %(bucket)s and o.key = decided.key and o.version = decided.version


-- name: mended_records
-- The mended records of some object versions.
select m.key, m.version, m.record, m.cells from lake.mended m
join unnest(%(keys)s::text[], %(versions)s::text[]) as wanted (key, version) using (key, version)
where m.bucket = %(bucket)s order by m.key, m.record

-- name: mend_record
-- A user's word for a broken record.
insert into lake.mended (bucket, key, version, record, cells)
values (%(bucket)s, %(key)s, %(version)s, %(record)s, %(cells)s)
on conflict (bucket, key, version, record) do update set cells = excluded.cells, run_id = null

-- name: adopt_mended
-- The first runs that load mended records own them.
update lake.mended m set run_id = adopted.run
from unnest(%(keys)s::text[], %(versions)s::text[], %(runs)s::bigint[]) as adopted (key, version, run)
where m.bucket = %(bucket)s and m.key = adopted.key and m.version = adopted.version and m.run_id is null

-- name: forget_mended
-- An undone run takes its mended records along.
delete from lake.mended where run_id = %(run)s

-- name: get_run
-- One run.
select id, kind, bucket, key, version, dataset, table_name, state, rows, rejects, started_at,
       coalesce(seconds, extract(epoch from clock_timestamp() - started_at)) as seconds, error, hint, exit_code,
       transform, source, notes, changes, replaced
from lake.runs where id = %(run)s

-- name: results_of_runs
-- What some runs made of their objects: their counts, and the transform that each applied.
select id, rows, rejects, transform from lake.runs where id = any(%(runs)s::bigint[])

-- name: list_runs
-- Runs, newest first.
select id, kind, bucket, key, version, dataset, table_name, state, rows, rejects, started_at,
       case when state = 'running' then extract(epoch from clock_timestamp() - started_at) else seconds end as seconds,
       error, hint, exit_code, transform, source, notes, changes, replaced
from lake.runs where (%(dataset)s::text is null or dataset = %(dataset)s) and (%(key)s::text is null or key = %(key)s)
order by id desc limit %(limit)s

-- name: list_objects
-- Object versions with the counts of the run that decided them, newest first.
select o.key, o.version, o.ordinal, o.dataset, o.state, r.rows, r.rejects, o.size, o.media_type, o.run_id, o.landed_at
from lake.objects o left join lake.runs r on r.id = o.run_id
where o.bucket = %(bucket)s and (%(dataset)s::text is null or o.dataset = %(dataset)s)
  and (%(key)s::text is null or o.key = %(key)s)
order by o.landed_at desc, o.key, o.ordinal desc limit %(limit)s

-- name: object_states
-- Every object version's state, for comparing the raw zone with the ledger.
select key, version, state, digest from lake.objects where bucket = %(bucket)s

-- name: object_state
-- One object version's state; the version as stored.
select state, digest, run_id from lake.objects where bucket = %(bucket)s and key = %(key)s and version = %(version)s

-- name: list_rejects
-- Open rejects with the run that made them, oldest first; those of superseded and undone runs are history.
select j.id, j.run_id, r.dataset, r.bucket, r.key, r.version, j.record, j.line, j.column_name, j.value, j.reason, j.text,
       r.source
from lake.rejects j join lake.runs r on r.id = j.run_id
where (%(dataset)s::text is null or r.dataset = %(dataset)s)
  and (r.state = 'loaded' or (r.state = 'failed' and not exists (
        select from lake.runs n where (n.bucket, n.key) = (r.bucket, r.key) and n.id > r.id and n.state <> 'running')))
order by j.id limit %(limit)s

-- name: get_reject
-- One reject and the object version it is of, whatever became of its run.
select r.dataset, r.bucket, r.key, r.version, j.record, r.source
from lake.rejects j join lake.runs r on r.id = j.run_id
where j.id = %(reject)s and (%(dataset)s::text is null or r.dataset = %(dataset)s)

-- name: objects_with_rejects
-- The object versions that open rejects are of, in the order of their runs.
select distinct r.bucket, r.key, r.version, r.dataset, r.id, count(*) over (partition by r.id)
from lake.rejects j join lake.runs r on r.id = j.run_id
where (%(dataset)s::text is null or r.dataset = %(dataset)s)
  and (r.state = 'loaded' or (r.state = 'failed' and not exists (
        select from lake.runs n where (n.bucket, n.key) = (r.bucket, r.key) and n.id > r.id and n.state <> 'running')))
order by r.id

-- name: list_tables
-- The tables that datasets were loaded into.
select r.table_name, min(r.dataset) as dataset, count(distinct r.key) filter (where r.state = 'loaded') as objects,
       max(r.started_at) filter (where r.state = 'loaded') as updated,
       pg_total_relation_size(to_regclass(quote_ident('public') || '.' || quote_ident(r.table_name))) as size
from lake.runs r where to_regclass(quote_ident('public') || '.' || quote_ident(r.table_name)) is not null
group by r.table_name order by updated desc nulls last, r.table_name

-- name: table_columns
-- The columns of a table, with their labels; the lineage column is left out.
select a.attname, format_type(a.atttypid, a.atttypmod), coalesce(c.label, ''), coalesce(c.only_nulls, false)
from pg_attribute a
left join lake.columns c on c.table_name = %(table)s and c.column_name = a.attname
where a.attrelid = to_regclass(quote_ident('public') || '.' || quote_ident(%(table)s))
  and a.attnum > 0 and not a.attisdropped and a.attname <> %(lineage)s
order by a.attnum

-- name: lineage_indexed
-- Whether an index of a table begins with its lineage column.
select exists (
    select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = to_regclass(quote_ident('public') || '.' || quote_ident(%(table)s)) and a.attname = %(lineage)s)

-- name: remember_columns
-- What a load learned of some columns.
insert into lake.columns (table_name, column_name, position, label, only_nulls, first_run)
select %(table)s, name, position, label, only_nulls, %(run)s
from unnest(%(columns)s::text[], %(positions)s::integer[], %(labels)s::text[], %(only_nulls)s::boolean[])
     as learned (name, position, label, only_nulls)
on conflict (table_name, column_name) do update
set only_nulls = lake.columns.only_nulls and excluded.only_nulls

-- name: replay_of_table
-- The runs whose rows make up a table, in their order, for building it again.
select id, bucket, key, version from lake.runs where table_name = %(table)s and state = 'loaded' order by id

-- name: recount_run
-- A run whose rows were written again.
update lake.runs set rows = %(rows)s where id = %(run)s

-- name: names_for_completion
-- Tables and columns that a query may name.
select n.nspname, c.relname, array_agg(a.attname order by a.attnum)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relkind in ('r', 'v', 'm', 'p') and n.nspname in ('public', 'lake') group by 1, 2 order by 1 desc, 2

-- name: share_table
-- Many loads at a time may add rows to a table whose shape stays.
select pg_advisory_xact_lock_shared(hashtextextended(%(table)s, 2))

-- name: rejects_of_run
-- The first rejects of a run.
select line, reason from lake.rejects where run_id = %(run)s order by id limit %(limit)s

-- name: dead_runs
-- Runs whose connection is gone without an end; as bury_dead_runs finds them, but only looked at.
select id from lake.runs
where state = 'running'
  and not exists (select from pg_locks
                  where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
                    and classid = %(space)s and objid = mod(lake.runs.id, 2147483648) and objsubid = 2 and granted)

-- name: runs_of_versions
-- The runs of some object versions, in their order.
select id, version, state, exit_code from lake.runs
where bucket = %(bucket)s and version = any(%(versions)s::text[]) order by id
