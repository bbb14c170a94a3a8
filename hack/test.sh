#!/bin/bash
# test.sh core|vm runs the tests and ends with one summary over all modules.
# "core" is what CI runs; "vm" runs every virtual-machine story.
set -euo pipefail
cd "$(dirname "$0")/.."

. hack/kube-flags.sh

json() { # json MODULE [go test flags] writes go test's events
	local module=$1
	shift
	# What goes to standard error counts as an error in the summary; fetching is none.
	(cd "$module" && go test -json "$@" 2> >(grep -v '^go: downloading' >&2)) || failed=1
}

unit() {
	json . -race -timeout 20m ./cmd/... ./pkg/... ./hack/floors/... ./hack/generate/... ./hack/powercut/...
	json . -count=1 -exec "$PWD/hack/as-nobody.sh" -run "Build|SameBytes|ISO" ./pkg/host/build
	for module in images/*/; do
		[ -f "$module/go.mod" ] && json "$module" ./...
	done
	# kube run natively, as root, in namespaces of its own.
	KUBE_JAIL_PROGRAMS=$(mktemp -d)
	export KUBE_JAIL_PROGRAMS
	(cd cmd/kube && CGO_ENABLED=0 go run "${kube_flags[@]}" ./jail build "$KUBE_JAIL_PROGRAMS" >"$KUBE_JAIL_PROGRAMS/log" 2>&1) || {
		cat "$KUBE_JAIL_PROGRAMS/log" >&2
		failed=1
	}
	CGO_ENABLED=0 json cmd/kube "${kube_flags[@]}" -timeout 30m -p 1 ./...
	rm -rf "$KUBE_JAIL_PROGRAMS"
}

events() {
	failed=0
	case $1 in
	core)
		unit
		json . -timeout 80m -count=1 -run "TestStories|Core" ./hack/vm/...
		;;
	vm) json . -timeout 9h -count=1 -run "Stories|Core" ./hack/vm/... -args -all ;;
	esac
	exit "$failed"
}

case ${1:-} in
core | vm) exec go run gotest.tools/gotestsum@v1.13.0 --format pkgname-and-test-fails --raw-command -- "$0" events "$1" ;;
events) events "$2" ;;
*)
	echo "usage: $0 core|vm" >&2
	exit 2
	;;
esac
