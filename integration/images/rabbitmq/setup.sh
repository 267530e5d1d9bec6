user rabbitmq 999 /var/lib/rabbitmq
dir 777 999 /var/lib/rabbitmq /var/lib/rabbitmq/mnesia /var/log/rabbitmq
