user backup 1000 /backup
dir 755 1000 /backup
