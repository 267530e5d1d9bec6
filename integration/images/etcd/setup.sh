dir 700 1000 /var/lib/etcd
