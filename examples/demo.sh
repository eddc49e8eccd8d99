#!/usr/bin/env bash
# The main job on real files, with no AWS and no Docker: land, load, query, change, undo. Works in .demo, made anew.
set -euo pipefail
cd "$(dirname "$0")/.."
data=$PWD/examples/data
rm -rf .demo
mkdir .demo
cd .demo # $OLDPWD is the checkout

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() {
    local shown='$ lakectl' word
    for word in "$@"; do
        [[ $word == *[[:space:]]* ]] && shown+=" \"$word\"" || shown+=" ${word#"$OLDPWD/"}"
    done
    printf '%s\n' "$shown"
    lakectl "$@"
}

say "Files in: a folder of flights (plain and gzip), JSON Lines, and a CSV. Types and tables follow from the files."
run upload "$data/flights" "$data/airlines.jsonl" "$data/penguins.csv"

say "What is there now"
run tables

say "SQL out: which airlines flew late?"
run query "select a.name, count(*) as flights, round(avg(f.dep_delay), 1) as minutes_late
  from flights f join airlines a using (carrier) group by a.name having count(*) > 20 order by 3 desc"

say "The same file again changes nothing; a changed one replaces just its own rows; undo brings the old ones back."
run upload "$data/flights"
head -n 100 "$data/flights/2013-01-01.csv" >2013-01-01.csv
run upload 2013-01-01.csv --dataset flights
run query "select count(*) as flights from flights"
changed=$(lakectl query --format csv "select max(id) from lake.runs" | tail -n 1)
run undo "$changed"
run query "select count(*) as flights from flights"

say "What is no table becomes rows too: an e-mail, a PDF, an image, a sound; --unpack lands the e-mail's attachment."
run upload "$data/papers" --unpack --quiet
run query "select subject, sender, sent_at, jsonb_array_length(attachments) as attached from papers where subject is not null"
run query "select camera, taken_at, width, height from papers where camera is not null"
run search "storm surges"

say "And a chart: penguins by species and island"
run query --chart "select species || ', ' || island as who, count(*) as penguins from penguins group by 1 order by 2 desc"
