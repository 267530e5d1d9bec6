user postgres 999 /var/lib/postgresql
dir 700 999 /var/lib/postgresql/data
dir 755 999 /var/lib/postgresql
dir 3775 999 /run/postgresql
sed -ri "s/^#?(listen_addresses) *= *'[^']*'/\1 = '*'/" "$root/usr/share/postgresql/15/postgresql.conf.sample"
