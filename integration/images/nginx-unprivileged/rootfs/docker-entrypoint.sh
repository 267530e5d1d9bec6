#!/bin/sh
# Runs what lies in /docker-entrypoint.d before nginx, and tells.
set -e
if [ "$1" = nginx ]; then
    for step in /docker-entrypoint.d/*.sh; do
        echo "$0: $step"
        "$step"
    done
    echo "$0: ready to start up"
fi
exec "$@"
