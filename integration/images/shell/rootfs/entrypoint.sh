#!/bin/bash
set -euo pipefail
mkdir -p /app/data/spool /tmp/work
[ "$(id -u)" != 0 ] || chown -R 1000:1000 /app/data
echo $$ >/var/run/app/app.pid
trap 'echo "read again"' HUP
trap 'echo "asked to end"; rm -f /var/run/app/app.pid; exit 0' TERM INT
echo "$(id -un) of $(hostname): home $HOME" >/dev/stderr
date >>/app/data/started
echo "ready in /app/data: $*"
while :; do
    sleep 60 &
    wait $! || true
done
