user mysql 999 /var/lib/mysql
dir 1777 999 /run/mysqld
dir 755 999 /var/lib/mysql
mkdir -p "$root/etc/mysql"
printf '[mysqld]\nskip-name-resolve\nbind-address=0.0.0.0\nsocket=/run/mysqld/mysqld.sock\npid-file=/run/mysqld/mysqld.pid\ninnodb_buffer_pool_size=32M\n' >"$root/etc/mysql/my.cnf"
