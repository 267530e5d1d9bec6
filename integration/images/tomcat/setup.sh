# What tomcat's own scripts would have made of both.
cp -rL "$root/etc/tomcat10" "$root/usr/local/tomcat/conf"
cp -rn "$root/usr/share/tomcat10/etc/." "$root/usr/local/tomcat/conf/"
chmod -R a+rX "$root/usr/local/tomcat/conf"
