user varnish 1000 /nonexistent
dir 755 1000 /var/lib/varnish
