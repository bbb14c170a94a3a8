package isoimage

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
)

// EmbedPath is where the embed area stands in an image; EmbedSize is its exact
// size in bytes, header included. EmbedMax is the largest config it can hold.
const (
	EmbedPath = "/kedge/config"
	EmbedSize = 256 << 10
	EmbedMax  = EmbedSize - 128
)

// Errors of the embed area that callers tell apart.
var (
	ErrEmbedTooLarge = errors.New("config is too large for the embed area")
	ErrEmbedDamaged  = errors.New("embed area is damaged")
)

const embedMagic = "KEDGE-EMBED 1"

// EncodeEmbed returns the whole embed area with config in it. The error wraps
// ErrEmbedTooLarge.
func EncodeEmbed(config []byte) ([]byte, error) {
	if len(config) > EmbedMax {
		return nil, fmt.Errorf("%w: %d bytes, at most %d fit", ErrEmbedTooLarge, len(config), EmbedMax)
	}
	area := make([]byte, EmbedSize)
	head := fmt.Sprintf("%s %d %x\n", embedMagic, len(config), sha256.Sum256(config))
	copy(area[copy(area, head):], config)
	return area, nil
}

// DecodeEmbed returns the config in an embed area; an empty area yields none.
// The error wraps ErrEmbedDamaged.
func DecodeEmbed(area []byte) ([]byte, error) {
	line, _, ok := bytes.Cut(area[:min(len(area), 128)], []byte("\n"))
	var size int
	var sum []byte
	if n, err := fmt.Sscanf(string(line), embedMagic+" %d %x", &size, &sum); !ok || err != nil || n != 2 {
		return nil, fmt.Errorf("%w: no %q header", ErrEmbedDamaged, embedMagic)
	}
	rest := area[len(line)+1:]
	if size < 0 || size > len(rest) {
		return nil, fmt.Errorf("%w: its header says %d bytes, %d are there", ErrEmbedDamaged, size, len(rest))
	}
	config := rest[:size]
	if got := sha256.Sum256(config); !bytes.Equal(got[:], sum) {
		return nil, fmt.Errorf("%w: the digest does not match", ErrEmbedDamaged)
	}
	return config, nil
}
