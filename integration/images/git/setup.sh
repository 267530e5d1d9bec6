user git 1001 /home/git
dir 755 1001 /home/git /srv/git
work=$(mktemp -d)
git -c init.defaultBranch=main init -q "$work"
echo "served by git" >"$work/served"
git -C "$work" add served
git -C "$work" -c user.name=a -c user.email=a@b commit -q -m first
git clone -q --bare "$work" "$root/srv/git/repository.git"
rm -rf "$work"
chown -R 1001:1001 "$root/srv/git"
