user haproxy 99 /var/lib/haproxy
dir 755 99 /run/haproxy /var/lib/haproxy
