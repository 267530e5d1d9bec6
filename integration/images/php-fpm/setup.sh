dir 1733 0 /var/lib/php/sessions
echo 'session.save_path = /tmp' >"$root/etc/php/8.2/fpm/conf.d/20-session.ini"
