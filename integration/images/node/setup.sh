user node 1000 /home/node
chown -R 1000:1000 "$root/home/node"
