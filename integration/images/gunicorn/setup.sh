user app 1000 /srv/app
chown -R 1000:1000 "$root/srv/app"
