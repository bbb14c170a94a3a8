// Command blocks says what the block-hash-index of RAUC would fetch to make the
// file NEW where OLD is: "blocks OLD NEW" prints a number of bytes.
//
// RAUC cuts both into blocks of 4 KiB at multiples of 4 KiB, fetches the blocks
// whose SHA-256 no block of the old one has, and an index of 32 bytes a block.
//
// Source: RAUC's manual, "Adaptive Updates" and the manifest key "adaptive".
package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
)

const block = 4096

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: blocks OLD NEW")
		os.Exit(2)
	}
	have := map[[sha256.Size]byte]bool{}
	_, err := fresh(os.Args[1], have)
	if err == nil {
		var n int64
		if n, err = fresh(os.Args[2], have); err == nil {
			fmt.Println(n)
			return
		}
	}
	fmt.Fprintln(os.Stderr, "blocks:", err)
	os.Exit(1)
}

// fresh adds the blocks of a file to those that are known, and returns the bytes
// of those that were not, with the index.
func fresh(file string, have map[[sha256.Size]byte]bool) (n int64, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for buf := make([]byte, block); ; {
		clear(buf)
		if _, err := io.ReadFull(f, buf); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return n, err
		}
		n += sha256.Size
		if sum := sha256.Sum256(buf); !have[sum] {
			have[sum] = true
			n += block
		}
	}
}
