user mosquitto 1883 /var/empty
dir 755 1883 /mosquitto/data /mosquitto/log
