dir 755 65534 /prometheus
