#!/bin/bash
# Prints what an upgrade fetches, in per cent of the new image, and what the same
# two images cost with other methods: name value unit. Builds an image for every
# kind of change from a copy of this tree; "delta-bench.sh NAME…" does some of:
# config go_program kube kernel patch all. COMPRESSION=fast is quicker and gives
# other figures. KEEP=DIR keeps the images, and uses those that are there.
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
images=${KEEP:-$work/images}
mkdir -p "$images"
images=$(cd "$images" && pwd)

figure() { printf '%s %s %s\n' "$@"; }
percent() { # percent NAME BYTES NEW
	figure "$1" "$(awk -v n="$2" -v of="$(stat -Lc %s "$3")" 'BEGIN { printf "%.2f", 100 * n / of }')" %
}

source_tree() { # source_tree NAME makes a copy of this tree, and goes there
	mkdir -p "$work/$1"
	git -C "$top" ls-files -z --cached --others --exclude-standard | (cd "$top" && tar c --null -T - --ignore-failed-read 2>/dev/null) | tar x -C "$work/$1"
	cd "$work/$1"
}

edit() { # edit FILE OLD NEW: OLD must be there
	grep -qF "$2" "$1" || { echo "delta-bench: $1 has no \"$2\" any more" >&2; exit 1; }
	sed -i "s|$2|$3|" "$1"
}

older_kernel() { # makes the lock name the kernel before its own
	local lock=images/edge.amd64.lock apt=$work/apt now old mirror suite
	now=$(sed -n 's/^kernel //p' $lock)
	suite=$(sed -n 's/^suite //p' $lock)
	mkdir -p "$apt/lists/partial" "$apt/cache"
	mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -m1 'debian-security' || true)
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian-security} $suite-security main" >"$apt/list"
	local o=(-o Dir::Etc::sourcelist="$apt/list" -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt/cache" -o Dir::State::status=/dev/null -o APT::Architecture=amd64)
	apt-get "${o[@]}" update -qq >&2
	old=$(apt-cache "${o[@]}" pkgnames "${now%%[0-9]*}" | grep -E '^linux-image-[0-9.]+\+deb[0-9]+-amd64$' | cat - <(echo "$now") | sort -Vu | grep -B1 -Fx "$now" | head -1)
	[ "$old" != "$now" ] || { echo "delta-bench: the archive has no kernel before $now" >&2; exit 1; }
	local about
	about=$(apt-cache "${o[@]}" show "$old")
	get() { sed -n "s/^$1: //p" <<<"$about" | head -1; }
	sed -i -e "s|^kernel .*|kernel $old|" \
		-e "s|^$now .*|$old $(get Version) $(get SHA256) $(get Size) debian-security $(get Filename | sed 's/+/%2b/g')|" $lock
}

change() { # change NAME: what is other in this tree
	case $1 in
	base) ;;
	config) echo 'net.core.somaxconn = 4096' >overlay/usr/lib/sysctl.d/60-site.conf ;;
	go_program) edit cmd/agent/upgrade.go 'which image? a file or URL' 'which image? name a file or a URL of one' ;;
	kube) edit cmd/kube/main.go 'os.Exit(dispatch(name, rest))' 'if os.Getenv("KUBE_TRACE_ARGS") != "" { println("kube is called as", name, len(rest)) }; os.Exit(dispatch(name, rest))' ;;
	kernel) older_kernel ;;
	patch) # a fix in what both of our programs use, a file, and the version
		edit pkg/sys/mount/mount_linux.go 'flags, data := split(s.Options)' 'flags, data := split(s.Options); if _, err := os.Stat(s.Target); err != nil { return fmt.Errorf("the target is gone: %w", err) }'
		echo '# later' >>overlay/usr/lib/sysctl.d/50-kedge.conf
		;;
	all) ;;
	*) echo "delta-bench: no change is called $1" >&2; exit 2 ;;
	esac
}

build() { # build NAME
	local version=0.1.0
	[ "$1" != patch ] && [ "$1" != all ] || version=0.1.1
	[ ! -e "$images/$1/kedge-amd64.iso" ] || return 0
	(
		source_tree "$1"
		change "$1"
		"$top/bin/kedge" build images/edge.yaml --arch amd64 --release $version --output "$images/$1" --compression "${COMPRESSION:-release}" --fresh-lock-if-gone >&2
	)
	rm -rf "${work:?}/$1"
}

compare() { # compare NAME OLD NEW
	local n
	n=$(bin/kedge delta "$2" "$3" --top 0 | awk '{ print $6 }')
	figure delta_percent.$1 "$n" %
	xdelta3 -9 -B 268435456 -e -f -s "$2" "$3" "$work/patch.xdelta"
	percent xdelta_percent.$1 "$(stat -c %s "$work/patch.xdelta")" "$3"
	casync make --store="$work/$1.castr" "$work/old.caibx" "$2" >/dev/null
	find "$work/$1.castr" -type f | sort >"$work/chunks"
	casync make --store="$work/$1.castr" "$work/new.caibx" "$3" >/dev/null
	n=$(find "$work/$1.castr" -type f | sort | comm -13 "$work/chunks" - | xargs -r stat -c %s | awk '{ n += $1 } END { print n + 0 }')
	percent casync_percent.$1 $((n + $(stat -c %s "$work/new.caibx"))) "$3"
	percent rauc_percent.$1 "$(go run ./hack/blocks "$2" "$3")" "$3"
	rm -rf "$work/$1.castr" "$work"/*.caibx "$work/patch.xdelta"
}

build base
figure image_bytes "$(stat -Lc %s "$images/base/kedge-amd64.iso")" bytes
figure chunk_index_bytes "$(stat -Lc %s "$images/base/kedge-amd64.iso.chunks")" bytes
for name in ${*:-config go_program patch all kube kernel}; do
	build "$name"
	old=$images/base/kedge-amd64.iso new=$images/$name/kedge-amd64.iso
	if [ "$name" = kernel ]; then # the change went the other way
		compare "$name" "$new" "$old"
	else
		compare "$name" "$old" "$new"
	fi
done
go test -run '^$' -bench 'SplitAndSum|Split$' ./pkg/api/chunk | awk '/^Benchmark/ { sub(/-[0-9]+$/, "", $1); print "chunk_" tolower(substr($1, 10)) "_speed", $5, "MB/s" }'
