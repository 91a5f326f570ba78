#!/bin/sh
# Make the data directory, the user and the database; then be the server.
set -eu
[ "${1#-}" = "$1" ] || set -- postgres "$@"
[ "$1" = postgres ] || exec "$@"
export PGDATA=/var/lib/postgresql/data
install -d -o postgres -g postgres -m 700 /var/lib/postgresql "$PGDATA"
install -d -o postgres -g postgres /var/run/postgresql
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  password=$(mktemp)
  echo "$POSTGRES_PASSWORD" >"$password"
  chown postgres "$password"
  gosu postgres initdb --username="$POSTGRES_USER" --pwfile="$password" \
    --auth=scram-sha-256 --auth-local=trust --encoding=UTF8 --no-locale --no-sync
  rm "$password"
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  gosu postgres pg_ctl start --wait --options="-c listen_addresses=''"
  gosu postgres createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
  gosu postgres pg_ctl stop --wait --mode=fast
fi
shift
exec gosu postgres postgres -c listen_addresses='*' "$@"
