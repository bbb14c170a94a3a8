#!/bin/bash
# as-nobody.sh PROGRAM [argument…] runs a test program of this tree as a user
# who may do nothing, in a mount namespace of its own where that user can read
# this tree, the compiled program and the module cache. For "go test -exec", as
# root; another user is unprivileged as he is.
set -euo pipefail
if [ "$(id -u)" -ne 0 ]; then
	exec "$@"
fi
if [ -z "${KEDGE_NOBODY:-}" ]; then
	KEDGE_NOBODY=$(mktemp -d) exec unshare --mount --propagation private "$0" "$@"
fi
tree=$(cd "$(dirname "$0")/.." && pwd)
here=${PWD#"$tree"}
work=$KEDGE_NOBODY
mkdir "$work/tree" "$work/modules" "$work/home"
mount --bind "$tree" "$work/tree"
mount --bind "$(go env GOMODCACHE)" "$work/modules"
cp "$1" "$work/program"
chmod 755 "$work" "$work/program"
chown nobody "$work/home"
cd "$work/tree$here"
status=0
setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all \
	env -i PATH="$PATH" HOME="$work/home" TMPDIR="$work/home" GOMODCACHE="$work/modules" GOFLAGS=-modcacherw GOPROXY=off \
	KEDGE_TEST_USER=nobody "$work/program" "${@:2}" || status=$?
cd /
umount "$work/tree" "$work/modules"
chmod -R u+w "$work"
rm -rf "$work"
exit $status
