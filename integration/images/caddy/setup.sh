dir 755 0 /data/caddy /config/caddy
# cap_net_bind_service=ep: VFS_CAP_REVISION_2 with the effective bit, CAP_NET_BIND_SERVICE.
python3 -c 'import os, sys; os.setxattr(sys.argv[1], "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))' "$root/usr/bin/caddy"
