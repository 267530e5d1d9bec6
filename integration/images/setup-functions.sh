# What an image's setup.sh may say; $root is the image's own layer, above the base.
root=$1

# user NAME UID HOME: in passwd and group of the base.
user() {
    mkdir -p "$root/etc"
    [ -e "$root/etc/passwd" ] ||
        printf 'root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n' >"$root/etc/passwd"
    [ -e "$root/etc/group" ] || printf 'root:x:0:\ntty:x:5:\nwww-data:x:33:\nnogroup:x:65534:\n' >"$root/etc/group"
    echo "$1:x:$2:$2:$1:$3:/usr/sbin/nologin" >>"$root/etc/passwd"
    echo "$1:x:$2:" >>"$root/etc/group"
}

# dir MODE UID PATH…
dir() {
    local mode=$1 uid=$2 path
    shift 2
    for path; do
        mkdir -p "$root$path"
        chmod "$mode" "$root$path"
        chown "$uid:$uid" "$root$path"
    done
}
