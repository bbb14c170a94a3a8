// Package sign makes keys, signs a finished image in place, and checks images.
//
// A signature is over the manifest inside the image, which has the digest of
// every file, and over the digest of all else there is, in the trusted comment.
// The configuration in the embed area can be changed afterwards.
// Keys and signatures are those of minisign; see pkg/format/minisign.
package sign

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/isoimage"
	"github.com/kedgeos/kedge/pkg/format/minisign"
)

// NewKey writes name.key, for its owner only, and name.pub. Files that are there
// are never overwritten. An empty password leaves the key unencrypted.
func NewKey(name string, password []byte) (minisign.PublicKey, error) {
	key, err := minisign.NewKey(rand.Reader)
	if err != nil {
		return minisign.PublicKey{}, err
	}
	secret, err := key.File(password, rand.Reader)
	if err != nil {
		return minisign.PublicKey{}, err
	}
	public, err := key.Public().File("")
	if err != nil {
		return minisign.PublicKey{}, err
	}
	if err := create(name+".key", secret, 0o600); err != nil {
		return minisign.PublicKey{}, err
	}
	if err := create(name+".pub", public, 0o644); err != nil {
		return minisign.PublicKey{}, errors.Join(err, os.Remove(name+".key"))
	}
	return key.Public(), nil
}

func create(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// ReadKeys reads public keys from files.
func ReadKeys(files []string) ([]minisign.PublicKey, error) {
	var keys []minisign.PublicKey
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		key, err := minisign.ParsePublicKey(string(text))
		if err != nil {
			return nil, fmt.Errorf("read public key %s: %w", file, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// Sign verifies an image against its manifest, and puts the key's signature into
// it. The signature's trusted comment names the release.
func Sign(ctx context.Context, image string, key minisign.SecretKey) error {
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	i, err := open(f)
	if err != nil {
		return err
	}
	if err := i.Verify(ctx, nil); err != nil {
		return err
	}
	manifest, err := i.File(release.ManifestPath)
	if err != nil {
		return err
	}
	whole, err := i.Whole(ctx, nil)
	if err != nil {
		return err
	}
	m := i.Manifest
	signature, err := minisign.Sign(key, manifest, fmt.Sprintf("%s %s %s id %s %s", m.Name, m.Version, m.Arch, m.ID, whole), "")
	if err != nil {
		return err
	}
	at, err := isoimage.Find(f, i.Size, "/"+release.SignaturePath)
	if err != nil {
		return fmt.Errorf("sign %s: it has no place for a signature: build it again: %w", image, err)
	}
	if int64(len(signature)) > at.Size {
		return fmt.Errorf("sign %s: the signature has %d bytes, its place %d", image, len(signature), at.Size)
	}
	area := append(signature, bytes.Repeat([]byte{0}, int(at.Size)-len(signature))...)
	if _, err := f.WriteAt(area, at.Offset); err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Verify says which release an image is, once its signature by one of the keys
// and all its files are found to be right.
func Verify(ctx context.Context, image string, keys []minisign.PublicKey) (release.Manifest, string, error) {
	f, err := os.Open(image)
	if err != nil {
		return release.Manifest{}, "", err
	}
	defer f.Close()
	i, err := open(f)
	if err != nil {
		return release.Manifest{}, "", err
	}
	comment, err := i.VerifySignature(keys)
	if err != nil {
		return i.Manifest, "", fmt.Errorf("%s: %w", image, err)
	}
	return i.Manifest, comment, i.Verify(ctx, nil)
}

func open(f *os.File) (*release.Image, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	i, err := release.Open(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("open image %s: %w", f.Name(), err)
	}
	return i, nil
}
