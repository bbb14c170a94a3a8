package config

// texts explains every key, by its path, and has the value it has in
// config.yaml.example. The tests hold it to the schema.
var texts = map[string]struct {
	text    string
	example string // YAML
}{
	"hostname": {
		"Name of the machine, and of its node in the cluster (there in lower case). Without it the machine makes up a name and keeps it.",
		"edge-17"},
	"ssh_authorized_keys": {
		"Who may log in as the user kedge by SSH. An item is a public key, github:USER, gitlab:USER, or a URL that yields keys. There is no login by password over SSH.",
		"- ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBdW8K4w3yBzKLVv6Fe3Hpm/GbG6iVN/1L21X131okqP operator@example.org"},
	"write_files": {
		"Files to write at every boot, before the commands of the same phase. A later source with the same path replaces the file.",
		""},
	"write_files[].path": {
		"Where the file goes; a relative path starts at /.",
		"/etc/rancher/k3s/registries.yaml"},
	"write_files[].content": {
		"What the file holds, in the given encoding.",
		"bWlycm9yczoge30K"},
	"write_files[].encoding": {
		"How content is written: plain text, base64, gzip (with !!binary), or both; the names of k3OS and cloud-init are understood.",
		"base64"},
	"write_files[].owner": {
		"Owner, and group after a colon; root without it.",
		"root:root"},
	"write_files[].permissions": {
		"Octal digits in quotes; \"0644\" without it.",
		`"0600"`},
	"init_cmd": {
		"Shell commands to run first, before the network is up. Each item goes to sh -c.",
		"- echo 'the machine starts' > /dev/console"},
	"boot_cmd": {
		"Shell commands to run once files are written and before Kubernetes is started.",
		"- mkdir -p /var/lib/example"},
	"run_cmd": {
		"Shell commands to run last, when the network is up and Kubernetes is started.",
		"- echo 'the machine is up' > /dev/console"},
	"kedge": {
		"All that is not in cloud-config. In files of k3OS the block is called k3os: and is read alike; where both say something, kedge: wins.",
		""},
	"kedge.data_sources": {
		"Clouds and media to ask for more configuration, in this order.",
		"- cdrom"},
	"kedge.modules": {
		"Kernel modules to load, each with its parameters after a blank.",
		"- nbd nbds_max=8"},
	"kedge.sysctls": {
		"Kernel parameters, as in /proc/sys with dots for slashes.",
		"vm.max_map_count: 262144"},
	"kedge.ntp_servers": {
		"Time servers.",
		"- ntp.example.org"},
	"kedge.dns_nameservers": {
		"Name servers for a machine that learns none by DHCP. None is built in.",
		"- 192.0.2.53"},
	"kedge.wifi": {
		"Wireless networks to join. A later source with the same name replaces the network.",
		""},
	"kedge.wifi[].name": {
		"Name of the network (SSID).",
		"site-17"},
	"kedge.wifi[].passphrase": {
		"Passphrase (WPA-PSK); an open network has none.",
		"correct horse battery"},
	"kedge.password": {
		"Password of the user kedge at the console, better as a crypt hash. Without it nobody logs in there.",
		`"$6$kedgeexample$nobodyKnowsThePasswordOfThisHashSoItMayStayAsItIsInTheExampleFile.Replace.itNow0000000"`},
	"kedge.server_url": {
		"Server to join. Without it the machine is a server itself.",
		"https://192.0.2.1:6443"},
	"kedge.token": {
		"Secret that lets a node join. Servers and agents of a cluster have the same.",
		"replace-me-by-a-long-random-text"},
	"kedge.labels": {
		"Labels of the node.",
		"site: north"},
	"kedge.k3s_args": {
		"Arguments of the Kubernetes server or agent, one an item. The first may be server or agent.",
		"- agent\n- --node-ip=192.0.2.17"},
	"kedge.environment": {
		"Variables for Kubernetes, containerd and all commands, such as a proxy.",
		"NO_PROXY: 10.0.0.0/8,192.0.2.0/24"},
	"kedge.taints": {
		"Taints of the node when it registers.",
		"- example.org/edge=yes:NoSchedule"},
	"kedge.upgrade": {
		"How another release is put on trial.",
		""},
	"kedge.upgrade.health_timeout": {
		"How long the node has to become healthy with a new release, until the one before it comes back. 15m when it is not set.",
		"10m"},
	"kedge.upgrade.health": {
		"What must be well with a new release, besides the node being Ready: commands that succeed, http and https URLs that answer with 200 to 399, tcp://HOST:PORT that accepts a connection. What failed before the upgrade does not count.",
		"- http://127.0.0.1:30080/healthz\n- test -e /var/lib/shop/till.db"},
	"kedge.upgrade.keys": {
		"Public keys whose signature a release must have, besides those in the image.",
		"- RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"},
	"kedge.upgrade.keys_url": {
		"Where the newest list of trusted keys is, made by \"kedge keys list\"; its signature is there too, with .minisig behind the name. Looked at before each upgrade.",
		"https://images.example.org/keys.json"},
	"kedge.upgrade.bandwidth": {
		"Greatest speed at which an image is fetched, in bytes per second. No limit when it is not set.",
		"500KB"},
	"kedge.upgrade.allow_unsigned": {
		"Take a release without a signature, or with one of an unknown key. Whoever can reach this machine's disk, network or registry can then replace its system.",
		"false"},
	"kedge.storage": {
		"Further disks to mount, before files are written and Kubernetes starts. A later source with the same path replaces the item. The disk of the system is never taken, and nothing that holds data is ever formatted. Not in install and rescue mode.",
		""},
	"kedge.storage[].path": {
		"Where it is mounted: a folder below /var (but for the system's own), /opt, /home, /usr/local, /mnt, /media or /srv, or one of the last three.",
		"/var/lib/rancher/k3s/storage"},
	"kedge.storage[].device": {
		"Disk or partition, by any of its paths below /dev.",
		"/dev/disk/by-id/ata-Example_Disk_S1234"},
	"kedge.storage[].match": {
		"Which whole disk is meant, where its path is not known: the only one that fits. Without device and match, label finds the file system.",
		""},
	"kedge.storage[].match.serial": {
		"Serial number.",
		"\"S*\""},
	"kedge.storage[].match.model": {
		"Vendor and model.",
		"\"*Example*\""},
	"kedge.storage[].match.transport": {
		"How it is attached. USB disks only fit when this says usb.",
		"sata"},
	"kedge.storage[].match.min_size": {
		"Smallest size.",
		"100GB"},
	"kedge.storage[].match.max_size": {
		"Largest size.",
		"4TB"},
	"kedge.storage[].label": {
		"Label of the file system: given to a new one, and wanted of one that is there.",
		"data"},
	"kedge.storage[].filesystem": {
		"Kind of the file system; ext4 when it is not set and a new one is made.",
		"ext4"},
	"kedge.storage[].format": {
		"What is done with a disk that is blank: if_blank makes a file system (so it is when this is not set), never does not.",
		"if_blank"},
	"kedge.storage[].options": {
		"Options of mount(8) besides nosuid and nodev, and noatime on ext4.",
		"discard"},
	"kedge.storage[].required": {
		"Do not start Kubernetes until this is mounted; it is looked for again and again. Without it a missing disk is told, and the boot goes on.",
		"true"},
	"kedge.install": {
		"How the system is installed to a disk.",
		""},
	"kedge.install.device": {
		"Disk to install to, by any of its paths below /dev.",
		"/dev/sda"},
	"kedge.install.disk": {
		"Which disk is meant, where its path is not known. One that is not named must be the only one that fits.",
		""},
	"kedge.install.disk.match": {
		"What the disk says about itself; all that is set must fit. * stands for any text.",
		""},
	"kedge.install.disk.match.serial": {
		"Serial number.",
		"S4EVNX0R*"},
	"kedge.install.disk.match.model": {
		"Vendor and model.",
		"samsung*"},
	"kedge.install.disk.match.transport": {
		"How it is attached. USB disks are only taken when they are named.",
		"nvme"},
	"kedge.install.disk.match.min_size": {
		"Smallest size.",
		"100GB"},
	"kedge.install.disk.match.max_size": {
		"Largest size.",
		"1TB"},
	"kedge.install.wipe": {
		"Install to a disk that holds data; all of it is lost.",
		"true"},
	"kedge.install.config_url": {
		"Where the configuration of the installed system is fetched from.",
		"https://config.example.org/edge-17.yaml"},
	"kedge.install.iso_url": {
		"Where the image is fetched from, when no medium with it is attached.",
		"https://images.example.org/kedge-amd64.iso"},
	"kedge.install.silent": {
		"Install without a question. A medium in live mode then installs too, once.",
		"true"},
	"kedge.install.force_efi": {
		"Of k3OS; has no meaning here, since every disk is prepared for BIOS and UEFI.",
		"false"},
	"kedge.install.no_format": {
		"Install to a disk of ours once more and keep its state: system, boot loader and boot record are written anew, the partitions and KEDGE-STATE stay. Any other disk is refused.",
		"false"},
	"kedge.install.power_off": {
		"Power off when done, instead of a reboot.",
		"false"},
	"kedge.install.debug": {
		"Let the installed system boot with its messages shown.",
		"false"},
	"kedge.install.tty": {
		"Console of the installed system.",
		"ttyS0"},
}
