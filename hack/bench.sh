#!/bin/bash
# Prints the figures of this tree, one a line: name value unit. Nothing here is
# a test: a noisy machine gives noisy figures. "bench.sh NAME…" runs some of:
# size build firmware embed decide scale kube vm upgrade. "bench.sh delta" builds seven
# images and takes long, so it runs only when it is named.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/kube-flags.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
out=dist

figure() { printf '%s %s %s\n' "$@"; }
seconds() { # seconds COMMAND… prints its wall time; its output goes to the log
	local start end
	start=$(date +%s%N)
	"$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
	end=$(date +%s%N)
	awk -v n=$((end - start)) 'BEGIN { printf "%.3f", n / 1e9 }'
}

size() {
	for arch in amd64 arm64; do
		figure iso_bytes.$arch "$(stat -Lc %s $out/kedge-$arch.iso)" bytes
	done
	unsquashfs -q -n -f -d "$work/root" $out/kedge-*-amd64-root.squashfs usr/bin/kube >/dev/null
	figure kube_bytes "$(stat -Lc %s "$work/root/usr/bin/kube")" bytes
	figure kube_zstd_bytes "$(zstd -19 -T0 -q -c "$work/root/usr/bin/kube" | wc -c)" bytes
}

build() {
	figure build_seconds.warm "$(seconds bin/kedge build images/edge.yaml --arch amd64 --output "$work/warm")" s
	# Cold: nothing of an earlier image, but packages and compiled Go are there.
	cp -a --reflink=auto "${XDG_CACHE_HOME:-$HOME/.cache}/kedge" "$work/cache"
	rm -rf "$work/cache/made" "$work/cache/programs" "$work/cache/sysroot"
	figure build_seconds.cold "$(seconds bin/kedge build images/edge.yaml --arch amd64 --cache "$work/cache" --output "$work/cold")" s
	# The same bytes, from another cache into another folder.
	figure build_differing_bytes "$(cmp -l "$work"/warm/kedge-amd64.iso "$work"/cold/kedge-amd64.iso | wc -l)" bytes
	rm -rf "$work/warm" "$work/cold" "$work/cache"
}

firmware() { # what microcode and the firmware of network cards add
	bin/kedge build images/edge-firmware.yaml --arch amd64 --output "$work/firmware" --fresh-lock-if-gone >&2
	figure firmware_set_bytes.amd64 $(($(stat -Lc %s "$work/firmware/kedge-firmware-amd64.iso") - $(stat -Lc %s $out/kedge-amd64.iso))) bytes
	rm -rf "$work/firmware"
}

embed() {
	cp --reflink=auto "$(readlink -f $out/kedge-amd64.iso)" "$work/copy.iso"
	printf 'hostname: bench\n' >"$work/config.yaml"
	figure embed_seconds "$(seconds bin/kedge embed "$work/copy.iso" --config "$work/config.yaml")" s
}

jail() { # programs that run natively, in namespaces of their own; needs root
	[ -d "$work/programs" ] || (cd cmd/kube && CGO_ENABLED=0 go build "${kube_flags[@]}" -o "$work/jail" ./jail &&
		"$work/jail" build "$work/programs" >&2)
}

kube() {
	jail
	"$work/jail" bench --programs "$work/programs" --idle 3m
}

scale() { # a plan over an API server with ${NODES:-10000} nodes that are objects only; takes half an hour
	jail
	(cd cmd/kube && KUBE_JAIL_PROGRAMS="$work/programs" CGO_ENABLED=0 go test "${kube_flags[@]}" -count=1 -timeout 3h -run 'TestScale$' ./jail \
		-args -scale "${NODES:-10000}" -figures "$work/figures.scale") >"$work/log" 2>&1 || {
		cat "$work/log" >&2
		exit 1
	}
	cat "$work/figures.scale"
}

delta() { hack/delta-bench.sh; }

decide() { # one decision of the upgrade controller over 10,000 nodes
	figure decide_seconds "$(go test -run '^$' -bench 'Decide$' -benchtime 50x ./pkg/cluster/upgrade | awk '/^BenchmarkDecide/ { printf "%.4f", $3 / 1e9 }')" s
}

vm() { bin/kedge run $out/kedge-amd64.iso --memory 1024 --network isolated --quiet --wait ready --figures; }

upgrade() { # an installation and an upgrade in a machine, and a plan over two; takes 40 minutes without KVM
	go test -count=1 -timeout 90m -run 'TestFigures$|TestStories/fleet$' ./hack/vm -args -all -figures "$work/figures" >"$work/log" 2>&1 || {
		cat "$work/log" >&2
		exit 1
	}
	cat "$work/figures"
}

for part in ${*:-size embed build firmware decide kube scale vm upgrade}; do
	$part
done
