#!/bin/sh
set -e
[ -d /etc/nginx/templates ] || exit 0
if [ ! -w /etc/nginx/conf.d ]; then
    echo "$0: cannot write to /etc/nginx/conf.d"
    exit 0
fi
for template in /etc/nginx/templates/*.template; do
    envsubst <"$template" >"/etc/nginx/conf.d/$(basename "$template" .template)"
done
