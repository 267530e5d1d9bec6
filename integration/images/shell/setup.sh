user app 1000 /app
dir 755 1000 /app /app/data
dir 755 1000 /run/app
