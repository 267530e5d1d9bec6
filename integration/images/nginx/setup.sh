user nginx 101 /nonexistent
dir 755 0 /var/log/nginx /var/cache/nginx
ln -sf /dev/stdout "$root/var/log/nginx/access.log"
ln -sf /dev/stderr "$root/var/log/nginx/error.log"
