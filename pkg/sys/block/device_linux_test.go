package block

import "testing"

func TestPartitionName(t *testing.T) {
	for disk, want := range map[string]string{
		"sda": "sda5", "vda": "vda5", "xvda": "xvda5", "mmcblk0": "mmcblk0p5", "nvme0n1": "nvme0n1p5", "md127": "md127p5", "cciss/c0d0": "cciss!c0d0p5",
	} {
		if got := partitionName(disk, 5); got != want {
			t.Errorf("partition 5 of %s: %s, want %s", disk, got, want)
		}
	}
}
