threads 1, 3
bind 'tcp://0.0.0.0:9292'
pidfile 'tmp/pids/server.pid'
state_path 'tmp/pids/puma.state'
