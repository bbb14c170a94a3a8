// Package vm holds the stories of whole machines: what a user sees from power
// on to power off, told as scripts in stories/ and played on virtual machines.
//
// "go test ./hack/vm" plays the core stories, with "-args -all" all of them,
// one after the other. They need the images in dist/ and QEMU. The console of
// each machine is kept in the folder that -logs names.
//
// Commands of a story, beside those of testscript; -name chooses a machine
// when there are several (default "one"), and every wait has a limit of
// minutes, since emulation is slow:
//
//	boot [flags] [IMAGE]             start a machine; see bootFlags
//	reach STAGE                      wait for a stage of the boot
//	[!] console REGEXP               wait for a line; with !, none came so far
//	[!] guest [-until] [-stdin FILE] COMMAND   run a shell command over SSH; -until repeats it
//	apply [KEY=VALUE…] FILE          kubectl apply, ${KEY} replaced
//	api PATH                         GET from the host, with the guest's kubeconfig
//	type LINE… | keys KEY…           type lines, press keys (down, enter) on the console
//	reboot | poweroff                ask the guest, and wait for it
//	powerbutton | cut-power          do it to the machine
//	stages                           print when each stage was reached
//	embed IMAGE CONFIG               make a copy of the image with a config in it
//	stick FILE KIND LABEL SOURCE…    make a stick (vfat or iso9660) with files
//	debian ARCH FILE SIZE SOURCE|@TARGET=PATH…  a disk with Debian, its kernel FILE.vmlinuz, its initrd FILE.initrd
//	state FILE SIZE                  make a disk for state
//	start | took NAME                measure: seconds since then, a figure
//	rate NAME REGEXP                 a figure out of what the last command said
//	damage DISK SLOT [PATH]          turn over the bits of the first MiBs of a slot, or of a file of its image
//	flip DISK SLOT PATH OFFSET|FILE  damage a byte of the image in a slot: at an offset, or in the bytes of a file
//	clean FILE                       the file system of a state disk was unmounted and is sound
//	serve VARIABLE DIR               serve a folder by HTTP; the guest's URL into a variable
//	registry VARIABLE                serve an empty registry; its host:port, for this host in VARIABLE_HERE
//	stall VARIABLE DIR BYTES TIMES   serve a folder; the first answers stop after so many bytes, without an end
//	kubernetes FILE VERSION [broken] build Kubernetes alone, or what fails in its place
//	expand FILE                      replace ${VARIABLE} in a file
package vm
