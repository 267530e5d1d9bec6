dir 755 0 /etc /dev /proc /sys /root
dir 1777 0 /tmp
for name in sh httpd ls cat id sleep; do
    ln -f "$root/usr/bin/busybox" "$root/usr/bin/$name" 2>/dev/null || ln -f "$root/bin/busybox" "$root/bin/$name"
done
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nnobody:x:65534:\n' >"$root/etc/group"
