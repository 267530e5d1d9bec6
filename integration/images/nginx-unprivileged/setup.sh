user nginx 101 /nonexistent
dir 755 0 /var/log/nginx /var/cache/nginx
ln -sf /dev/stdout "$root/var/log/nginx/access.log"
ln -sf /dev/stderr "$root/var/log/nginx/error.log"
chown 101:101 "$root"/etc/nginx/conf.d "$root"/etc/nginx/conf.d/*; chown 101:101 "$root/var/cache/nginx"
