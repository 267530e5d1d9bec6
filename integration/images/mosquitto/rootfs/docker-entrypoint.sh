#!/bin/sh
set -e
if [ "$(id -u)" = 0 ]; then
    [ -d /mosquitto ] && chown -R mosquitto:mosquitto /mosquitto/data || true
fi
exec "$@"
