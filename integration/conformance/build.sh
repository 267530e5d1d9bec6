#!/usr/bin/env bash
# Builds containerd's own integration suites from its Go module: target/conformance/VERSION/{cri,client}.test
#
#   build.sh 2.1      the version that integration/conformance/2.1/go.mod pins, whose containerd is a package
#   build.sh 2.4      the same of 2.4, and containerd, ctr and runc's shim of that version: no package has them
#
# Does nothing, quickly, when they are there.
set -euo pipefail
cd "$(dirname "$0")/$1"
. ../../scripts/go.sh
top=../../..
module=github.com/containerd/containerd/v2
version=$(awk -v module=$module '$1 == module { print $2 } $2 == module { print $3 }' go.mod)
to=$top/target/conformance/$1
[ ! -e "$to/.complete" ] || [ "$(cat "$to/.complete")" != "$version $(cat go.sum | sha256sum)" ] || exit 0
needs_go conformance "containerd's suites" 1.24
echo "conformance: building the suites of containerd $version"
mkdir -p "$to/client" "$to/cri"
export GOFLAGS="-buildvcs=false -mod=readonly -trimpath"
fetch_modules -test $module/integration $module/integration/client
# The names of its tests: the program itself tells them only where a containerd answers.
names() {
    go list -test -f '{{$dir := .Dir}}{{range .TestGoFiles}}{{$dir}}/{{.}}{{"\n"}}{{end}}' "$1" |
        xargs sed -n 's/^func \(Test[A-Za-z0-9_]*\)(\w* \*testing\.T).*/\1/p' | sort -u
}
names $module/integration >"$to/cri.tests"
names $module/integration/client >"$to/client.tests"
go test -c -ldflags="-s -w" -o "$to/cri.test" $module/integration
go test -c -ldflags="-s -w" -o "$to/client.test" $module/integration/client
if [ "$1" != 2.1 ]; then
    mkdir -p "$to/bin"
    for program in containerd ctr containerd-shim-runc-v2; do
        go build -ldflags="-s -w -X $module/version.Version=$version" -o "$to/bin/" "$module/cmd/$program"
    done
fi
# What the suites pull where no list of theirs is read: KEY HOST/REPOSITORY:TAG.
"$to/client.test" -test.list '^$' 2>&1 | sed -n 's/.*image list: {\(.*\)}"/\1/p' | tr ' ' '\n' | sed 's/:/ /' >"$to/images"
cp -r --no-preserve=mode "$(go list -f '{{.Dir}}' $module/integration/client)/testdata" "$to/client/" 
echo "$version $(cat go.sum | sha256sum)" >"$to/.complete"
