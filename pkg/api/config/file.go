package config

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Limits in bytes.
const (
	MaxSize  = 4 << 20  // of one source
	MaxFile  = 16 << 20 // of one file of write_files, unpacked
	MaxFiles = 64 << 20 // of all files of one source, unpacked
)

// encodings lists, per name, the steps from content to bytes. The names are
// those of k3OS and of cloud-init.
var encodings = map[string][]func([]byte) ([]byte, error){
	"":            nil,
	"plain":       nil,
	"text/plain":  nil,
	"b64":         {unbase64},
	"base64":      {unbase64},
	"gz":          {gunzip},
	"gzip":        {gunzip},
	"gz+b64":      {unbase64, gunzip},
	"gz+base64":   {unbase64, gunzip},
	"gzip+b64":    {unbase64, gunzip},
	"gzip+base64": {unbase64, gunzip},
	"b64+gz":      {unbase64, gunzip},
	"base64+gz":   {unbase64, gunzip},
	"b64+gzip":    {unbase64, gunzip},
	"base64+gzip": {unbase64, gunzip},
}

// Bytes decodes the content; its length is at most MaxFile.
func (f File) Bytes() ([]byte, error) {
	steps, ok := encodings[strings.ToLower(strings.TrimSpace(f.Encoding))]
	if !ok {
		return nil, fmt.Errorf("unknown encoding %q", f.Encoding)
	}
	data := []byte(f.Content)
	for _, step := range steps {
		var err error
		if data, err = step(data); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// unbase64 takes line breaks anywhere, and padding or none.
func unbase64(data []byte) ([]byte, error) {
	data = bytes.TrimRight(bytes.Join(bytes.Fields(data), nil), "=")
	out, err := base64.RawStdEncoding.AppendDecode(nil, data)
	if err != nil {
		return nil, fmt.Errorf("decode base64: %w", err)
	}
	return out, nil
}

func gunzip(data []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("decode gzip: %w", err)
	}
	out, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("decode gzip: %w", err)
	}
	if len(out) > MaxFile {
		return nil, fmt.Errorf("decode gzip: more than %d MiB", MaxFile>>20)
	}
	return out, nil
}

// Mode returns the permissions, 0644 when none are given.
func (f File) Mode() (fs.FileMode, error) {
	if f.Permissions == "" {
		return 0o644, nil
	}
	bits, err := strconv.ParseUint(strings.TrimPrefix(f.Permissions, "0o"), 8, 32)
	if err != nil || bits > 0o7777 {
		return 0, fmt.Errorf("permissions are octal digits such as \"0644\", not %q", f.Permissions)
	}
	mode := fs.FileMode(bits & 0o777)
	for bit, set := range map[uint64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if bits&bit != 0 {
			mode |= set
		}
	}
	return mode, nil
}

// Target returns the absolute, clean path; a relative one starts at /.
func (f File) Target() string {
	return path.Clean("/" + f.Path)
}

// Encodings returns the names that File.Encoding may have, sorted.
func Encodings() []string {
	var names []string
	for name := range encodings {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
