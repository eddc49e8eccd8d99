#!/bin/sh
# What a client notices of Aurora PostgreSQL: the master user is no superuser, members of rds_iam log in with a token,
# nobody connects without TLS. Tokens are checked by the emulator, which answers to PostgreSQL as an LDAP server.
set -eu
[ "${1#-}" = "$1" ] || set -- postgres "$@"
if [ "$1" = postgres ]; then
    : "${PGDATA:=/var/lib/postgresql/data}" "${POSTGRES_USER:=postgres}"
    : "${POSTGRES_DB:=$POSTGRES_USER}" "${POSTGRES_PASSWORD:?POSTGRES_PASSWORD is required}"
    mkdir -p "$PGDATA"
    chown postgres:postgres "$PGDATA"
    chmod 700 "$PGDATA"
    if [ ! -s "$PGDATA/PG_VERSION" ]; then
        gosu postgres initdb -D "$PGDATA" --username=rdsadmin --auth-local=trust --auth-host=scram-sha-256 \
            -E UTF8 --locale=C.UTF-8 --no-sync
        gosu postgres pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start
        gosu postgres psql -q -v ON_ERROR_STOP=1 -v master="$POSTGRES_USER" -v word="$POSTGRES_PASSWORD" \
            -v db="$POSTGRES_DB" --username rdsadmin -d postgres <<'SQL'
create role rds_iam;
create role rds_superuser;
grant pg_monitor, pg_signal_backend to rds_superuser with admin option;
grant rds_iam to rds_superuser with admin option;
create role :"master" login createrole createdb password :'word';
grant rds_superuser to :"master";
select format('create database %I owner %I', :'db', :'master') where :'db' <> 'postgres' \gexec
SQL
        gosu postgres pg_ctl -D "$PGDATA" -m fast -w stop
    fi
    cat > "$PGDATA/pg_hba.conf" <<HBA
local all rdsadmin trust
hostssl all "${POSTGRES_USER}" all scram-sha-256
hostssl all +rds_iam all ldap ldapserver=host.docker.internal ldapport=${E2E_TOKEN_PORT:-4389} ldapprefix="$(hostname)/"
hostssl all all all scram-sha-256
HBA
    exec gosu postgres "$@" -c "listen_addresses=*"
fi
exec "$@"
