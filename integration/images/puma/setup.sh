user rails 1000 /rails
chown -R 1000:1000 "$root/rails"
