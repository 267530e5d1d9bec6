#!/bin/bash
set -eo pipefail
if [ "$1" = mariadbd ]; then
    if [ "$(id -u)" = 0 ]; then
        mkdir -p /var/lib/mysql
        find /var/lib/mysql /run/mysqld \! -user mysql -exec chown mysql: '{}' +
        exec gosu mysql "$0" "$@"
    fi
    if [ ! -d /var/lib/mysql/mysql ]; then
        mariadb-install-db --datadir=/var/lib/mysql --skip-test-db --auth-root-authentication-method=normal >/dev/null
        cat >/var/lib/mysql/first.sql <<'SQL'
create database app;
create table app.t as select 1 as a;
create user app@'%' identified by 'app';
grant all on app.* to app@'%';
SQL
        set -- "$@" --init-file=/var/lib/mysql/first.sql
    fi
fi
exec "$@"
