#!/bin/bash
# gofmt, go vet and staticcheck over every module of the tree.
set -euo pipefail
cd "$(dirname "$0")/.."
unformatted=$(gofmt -l cmd pkg hack images)
if [ -n "$unformatted" ]; then
	echo "lint: gofmt would change: $unformatted" >&2
	exit 1
fi
# The flags of the image's own build, so that its compiled packages serve.
. hack/kube-flags.sh
export CGO_ENABLED=0
for module in . cmd/kube images/*/; do
	[ -f "$module/go.mod" ] || continue
	echo "lint: $module"
	export GOFLAGS=-trimpath
	[ "$module" = cmd/kube ] && GOFLAGS="${kube_flags[*]}"
	(cd "$module" && go vet ./... && go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...)
done
