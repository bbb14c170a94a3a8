// Package channel knows the document that a Plan's channel leads to: a JSON file
// that names, for each track, the release to run, with a minisign signature
// beside it.
//
// The signature covers the digests, so nothing is looked up by a tag. Serial
// numbers only rise: who has seen one takes no lower one, and a document that
// names an older release under a higher number is not followed either. Whose
// keys are trusted, and which document was seen last, is for the caller to know.
package channel

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kedgeos/kedge/pkg/format/minisign"
)

// Kind stands in every document: what else a key has signed is none.
const Kind = "kedge channel"

// Schema is the number of the document's form.
const Schema = 1

// SignatureSuffix is what the name of a document's signature ends in: that of a
// URL's path, or of a ConfigMap's key.
const SignatureSuffix = ".minisig"

// MaxSize bounds a document and a signature, in bytes.
const MaxSize = 64 << 10

// Errors that callers tell apart.
var (
	ErrDocument = errors.New("bad channel document")
	ErrExpired  = errors.New("the channel document has expired")
)

// A Document is one channel.
type Document struct {
	Kind    string           `json:"kind"`
	Schema  int              `json:"schema"`
	Serial  int64            `json:"serial"`            // from 1 on
	Expires *time.Time       `json:"expires,omitempty"` // nil for never
	Tracks  map[string]Track `json:"tracks"`            // by their names, such as stable
}

// A Track is one line of releases: what it names now.
type Track struct {
	OS         *Release `json:"os,omitempty"`
	Kubernetes *Release `json:"kubernetes,omitempty"`
}

// A Release is one image. That of an OS has an image and a digest; Kubernetes
// may be a version alone.
type Release struct {
	Image      string `json:"image,omitempty"`
	Digest     string `json:"digest,omitempty"` // sha256:…, of the OCI image or index
	Version    string `json:"version"`
	Kubernetes string `json:"kubernetes,omitempty"` // the version in an OS image

	UpgradeFrom string `json:"upgrade_from,omitempty"` // the versions that an OS image may follow
}

// Open returns the document that one of the keys has signed. The error wraps
// ErrDocument, ErrExpired, or what minisign finds wrong.
func Open(document, signature []byte, keys []minisign.PublicKey, now time.Time) (Document, error) {
	s, err := minisign.ParseSignature(signature)
	if err != nil {
		return Document{}, fmt.Errorf("read signature of the channel: %w", err)
	}
	if err := s.Verify(keys, bytes.NewReader(document)); err != nil {
		return Document{}, fmt.Errorf("verify channel: %w", err)
	}
	d, err := Decode(document)
	if err != nil {
		return Document{}, err
	}
	if d.Expires != nil && now.After(*d.Expires) {
		return Document{}, fmt.Errorf("%w on %s: is the one who signs it still there, and this machine's clock right?", ErrExpired, d.Expires.UTC().Format(time.DateOnly))
	}
	return d, nil
}

// Decode reads a document, and does not look at its signature. It is strict. The
// error wraps ErrDocument.
func Decode(b []byte) (Document, error) {
	var d Document
	r := json.NewDecoder(bytes.NewReader(b))
	r.DisallowUnknownFields()
	if err := r.Decode(&d); err != nil {
		return Document{}, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	if r.More() {
		return Document{}, fmt.Errorf("%w: something follows it", ErrDocument)
	}
	if err := d.check(); err != nil {
		return Document{}, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	return d, nil
}

func (d Document) check() error {
	switch {
	case d.Kind != Kind:
		return fmt.Errorf("kind %q, not %q", d.Kind, Kind)
	case d.Schema != Schema:
		return fmt.Errorf("schema %d, this program knows %d", d.Schema, Schema)
	case d.Serial < 1:
		return fmt.Errorf("serial %d", d.Serial)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Tracks)) {
		t := d.Tracks[name]
		if t.OS == nil && t.Kubernetes == nil {
			return fmt.Errorf("track %s names nothing", name)
		}
		if o := t.OS; o != nil && (o.Image == "" || o.Digest == "") {
			return fmt.Errorf("track %s: os: an image and a digest are wanted", name)
		}
		for what, r := range map[string]*Release{"os": t.OS, "kubernetes": t.Kubernetes} {
			if r == nil {
				continue
			}
			if err := r.check(); err != nil {
				return fmt.Errorf("track %s: %s: %w", name, what, err)
			}
		}
	}
	return nil
}

func (r Release) check() error {
	if r.Version == "" {
		return errors.New("a version is wanted")
	}
	if (r.Image == "") != (r.Digest == "") {
		return errors.New("an image and its digest go together")
	}
	if r.Digest == "" {
		return nil
	}
	digits, ok := strings.CutPrefix(r.Digest, "sha256:")
	if !ok || len(digits) != 64 || strings.Trim(digits, "0123456789abcdef") != "" {
		return fmt.Errorf("digest %q: sha256: and 64 hexadecimal digits are wanted", r.Digest)
	}
	return nil
}

// Encode returns the document as it is written and signed.
func (d Document) Encode() []byte {
	d.Kind, d.Schema = Kind, Schema
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		panic(err) // strings, numbers and a time always have a JSON form
	}
	return append(b, '\n')
}

// Names returns the tracks of the document, for a message.
func (d Document) Names() string {
	return strings.Join(slices.Sorted(maps.Keys(d.Tracks)), ", ")
}
