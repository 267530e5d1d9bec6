#!/usr/bin/env bash
set -Eeo pipefail

make_directories() {
    local user
    user=$(id -u)
    mkdir -p "$PGDATA"
    chmod 00700 "$PGDATA" || :
    mkdir -p /var/run/postgresql || :
    chmod 03775 /var/run/postgresql || :
    if [ "$user" = 0 ]; then
        find "$PGDATA" \! -user postgres -exec chown postgres '{}' +
        find /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
    fi
}

if [ "$1" = postgres ]; then
    make_directories
    if [ "$(id -u)" = 0 ]; then
        exec gosu postgres "${BASH_SOURCE[0]}" "$@"
    fi
    if [ ! -s "$PGDATA/PG_VERSION" ]; then
        initdb --username=postgres --auth=trust -D "$PGDATA"
        echo "host all all all trust" >>"$PGDATA/pg_hba.conf"
        # A server for the scripts of /docker-entrypoint-initdb.d, on its socket alone.
        pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start
        psql -U postgres -c "create table made_at_first_start (a int)"
        pg_ctl -D "$PGDATA" -m fast -w stop
        echo "init process complete; ready for start up"
    fi
fi
exec "$@"
