package boot

import (
	"io/fs"

	"github.com/kedgeos/kedge/pkg/sys/mount"
)

// Where the parts of the system lie while and after it starts.
const (
	newRoot    = "/sysroot"
	runDir     = "/run/kedge"
	mediumDir  = runDir + "/medium"
	fetchedDir = runDir
)

// mnt is short for the step that mounts.
func mnt(kind, source, target, options string) Mount {
	return Mount{mount.Spec{Type: kind, Source: source, Target: target, Options: options}}
}

// earlySteps is what the initrd does before it looks at any device.
var earlySteps = []Step{
	mnt("devtmpfs", "devtmpfs", "/dev", "nosuid,mode=0755"),
	mnt("proc", "proc", "/proc", "nosuid,nodev,noexec"),
	mnt("sysfs", "sysfs", "/sys", "nosuid,nodev,noexec"),
	mnt("tmpfs", "tmpfs", "/run", "nosuid,nodev,mode=0755,size=60%"),
	Folder{runDir, 0o755},
}

// moved are the mounts that the initrd hands to the root.
var moved = []string{"/dev", "/proc", "/sys", "/run"}

// handOver moves what is mounted into the new root.
func handOver() []Step {
	var steps []Step
	for _, dir := range moved {
		steps = append(steps, Mount{mount.Spec{Source: dir, Target: newRoot + dir, Options: "move"}})
	}
	return steps
}

// initrdModules have no device that asks for them.
var initrdModules = Modules{
	"loop", "squashfs", "overlay", "isofs", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859-1", "nls_utf8", "ext4",
	"dm_mod", "dm_verity", "sha256_ssse3", "sha2_ce", "sha256_arm64",
}

// netbootModules are wanted when the root comes over the network.
var netbootModules = Modules{"af_packet"}

// rootModules are what containers and services need and no device asks for.
// What Kubernetes uses at each start stands here: a request of the kernel for
// a module costs a process.
var rootModules = Modules{
	"overlay", "br_netfilter", "bridge", "veth", "vxlan", "loop", "tun",
	"nf_tables", "nf_conntrack", "nf_conntrack_netlink", "nft_chain_nat", "nft_ct", "nft_masq", "nft_nat", "nft_numgen",
	"nft_reject", "nft_reject_ipv4", "nft_reject_ipv6", "nft_reject_inet", "nft_fib", "nft_fib_ipv4", "nft_fib_ipv6",
	"nft_fib_inet", "nft_limit", "nft_log", "nft_hash", "nft_redir", "nft_compat",
	"button", "evdev", "qemu_fw_cfg", "efivarfs", "af_packet", "vfat", "nls_ascii", "nls_cp437", "isofs",
}

// rootSteps is what the root needs before /var is there.
var rootSteps = []Step{
	Optional{Mount{mount.Spec{Target: "/dev", Options: "remount,nosuid"}}},
	mnt("devpts", "devpts", "/dev/pts", "nosuid,noexec,gid=5,mode=0620,ptmxmode=0666"),
	mnt("tmpfs", "tmpfs", "/dev/shm", "nosuid,nodev,mode=1777"),
	Optional{mnt("mqueue", "mqueue", "/dev/mqueue", "nosuid,nodev,noexec")},
	Optional{mnt("hugetlbfs", "hugetlbfs", "/dev/hugepages", "nosuid,nodev")},
	Link{"/proc/self/fd", "/dev/fd"},
	Link{"/proc/self/fd/0", "/dev/stdin"},
	Link{"/proc/self/fd/1", "/dev/stdout"},
	Link{"/proc/self/fd/2", "/dev/stderr"},
	Optional{Link{"/proc/kcore", "/dev/core"}},
	mnt("cgroup2", "cgroup2", "/sys/fs/cgroup", "nosuid,nodev,noexec,nsdelegate,memory_recursiveprot"),
	Optional{mnt("bpf", "bpf", "/sys/fs/bpf", "nosuid,nodev,noexec,mode=0700")},
	Optional{mnt("pstore", "pstore", "/sys/fs/pstore", "nosuid,nodev,noexec")},
	Optional{mnt("securityfs", "securityfs", "/sys/kernel/security", "nosuid,nodev,noexec")},
	mnt("tmpfs", "tmpfs", "/tmp", "nosuid,nodev,mode=1777,size=50%"),
	Folder{"/run/lock", 0o777 | fs.ModeSticky},
	Folder{runDir + "/log", 0o755},
	Folder{runDir + "/services", 0o755},
	Folder{runDir + "/etc/upper", 0o755},
	Folder{runDir + "/etc/work", 0o755},
	mnt("overlay", "etc", "/etc", "lowerdir=/etc,upperdir="+runDir+"/etc/upper,workdir="+runDir+"/etc/work"),
	File{runDir + "/resolv.conf", ""},
	Optional{Hostname("kedge")},
	Optional{LinkUp("lo")},
}

// newVar is where /var is made ready before it covers the one in the image.
const newVar = runDir + "/var"

// varSteps mount /var and all that is bound from it. State is the device of
// disk mode; "" puts everything into memory.
func varSteps(state string) []Step {
	first := mnt("tmpfs", "tmpfs", newVar, "nosuid,nodev,mode=0755,size=80%")
	if state != "" {
		first = mnt("ext4", state, newVar, "nosuid,nodev,noatime")
	}
	steps := []Step{first}
	for _, p := range Persistent {
		steps = append(steps, Folder{newVar + "/" + p.Path, p.Mode})
	}
	steps = append(steps,
		Link{"/run", newVar + "/run"},
		Link{"/run/lock", newVar + "/lock"},
		Fill{"/var", newVar},
	)
	for _, p := range Persistent {
		if p.Bind != "" {
			steps = append(steps, Fill{p.Bind, newVar + "/" + p.Path})
		}
	}
	steps = append(steps, Mount{mount.Spec{Source: newVar, Target: "/var", Options: "move"}})
	for _, p := range Persistent {
		if p.Bind != "" {
			steps = append(steps, Mount{mount.Spec{Source: "/var/" + p.Path, Target: p.Bind, Options: "bind"}})
		}
	}
	return steps
}

// lastSteps come when everything else is mounted: a mount below a shared one
// cannot be moved. Shared, mounts that appear later also show in the name spaces
// of containers.
func lastSteps(uefi bool) []Step {
	steps := []Step{Mount{mount.Spec{Target: "/", Options: "rshared"}}}
	if uefi {
		steps = append(steps, Optional{mnt("efivarfs", "efivarfs", "/sys/firmware/efi/efivars", "nosuid,nodev,noexec,ro")})
	}
	return steps
}
