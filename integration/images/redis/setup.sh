user redis 999 /data
dir 755 999 /data
