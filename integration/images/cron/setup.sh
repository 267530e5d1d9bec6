user app 1000 /app
# Its own rules want this file to be root's alone.
chmod 644 "$root/etc/cron.d/it"
chown -R 0:0 "$root/etc/cron.d"
