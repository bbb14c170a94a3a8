// Package deb reads Debian binary packages.
//
// A package is an ar archive of three members: debian-binary, control.tar.*
// and data.tar.*. The package knows bytes only; where files go and who owns
// them in the end is the caller's business. Sizes are bytes.
//
// Source: deb(5), deb-control(5).
package deb

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// ErrFormat means the bytes are not a Debian package of format 2.0.
var ErrFormat = errors.New("not a Debian package")

// Control holds the fields of a package's control file by their name as
// written, such as "Package" or "Installed-Size". Continuation lines are
// joined with newlines.
type Control map[string]string

// Read reads a package once from front to back. It returns its control fields
// and hands the files of data.tar to data as an uncompressed tar stream; data
// may be nil when only the fields are wanted.
func Read(r io.Reader, data func(io.Reader) error) (Control, error) {
	var control Control
	seen := false
	err := members(r, func(name string, body io.Reader) error {
		switch {
		case !seen && name != "debian-binary":
			return fmt.Errorf("%w: first member is %q", ErrFormat, name)
		case !seen:
			seen = true
			return version(body)
		case strings.HasPrefix(name, "control.tar"):
			return decompressed(name, body, func(t io.Reader) (err error) {
				control, err = readControl(t)
				return err
			})
		case strings.HasPrefix(name, "data.tar") && data != nil:
			return decompressed(name, body, data)
		}
		return nil
	})
	if err == nil && control == nil {
		err = fmt.Errorf("%w: no control.tar", ErrFormat)
	}
	return control, err
}

func version(body io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(body, 64))
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(b), "2.") {
		return fmt.Errorf("%w: version %q", ErrFormat, strings.TrimSpace(string(b)))
	}
	return nil
}

// members calls visit for each member of an ar archive; what visit leaves
// unread is skipped.
func members(r io.Reader, visit func(name string, body io.Reader) error) error {
	br := bufio.NewReaderSize(r, 1<<16)
	magic := make([]byte, 8)
	if _, err := io.ReadFull(br, magic); err != nil || string(magic) != "!<arch>\n" {
		return fmt.Errorf("%w: no ar magic", ErrFormat)
	}
	head := make([]byte, 60)
	for {
		if _, err := io.ReadFull(br, head); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("%w: ar header: %w", ErrFormat, err)
		}
		size, err := strconv.ParseInt(strings.TrimSpace(string(head[48:58])), 10, 64)
		if err != nil || size < 0 || string(head[58:]) != "`\n" {
			return fmt.Errorf("%w: damaged ar header", ErrFormat)
		}
		name := strings.TrimSuffix(strings.TrimSpace(string(head[:16])), "/")
		body := &io.LimitedReader{R: br, N: size}
		if err := visit(name, body); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if _, err := io.CopyN(io.Discard, br, body.N+size%2); err != nil {
			return fmt.Errorf("%w: %s is cut short", ErrFormat, name)
		}
	}
}

// decompressed calls use with the content of a member, decompressed as its
// name says.
func decompressed(name string, body io.Reader, use func(io.Reader) error) error {
	switch path.Ext(name) {
	case ".tar":
		return use(body)
	case ".gz":
		z, err := gzip.NewReader(body)
		if err != nil {
			return err
		}
		return use(z)
	case ".xz":
		z, err := xz.NewReader(body, 0)
		if err != nil {
			return err
		}
		return use(z)
	case ".zst":
		z, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return err
		}
		defer z.Close()
		return use(z)
	}
	return fmt.Errorf("%w: compression %q is not known", ErrFormat, path.Ext(name))
}

func readControl(r io.Reader) (Control, error) {
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil, fmt.Errorf("%w: control.tar has no control file", ErrFormat)
		}
		if err != nil {
			return nil, err
		}
		if path.Clean(h.Name) != "control" {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(t, 1<<20))
		if err != nil {
			return nil, err
		}
		return ParseControl(string(b))
	}
}

// ParseControl reads one paragraph of fields.
func ParseControl(text string) (Control, error) {
	c, last := Control{}, ""
	for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if line == "" {
			continue
		}
		if line[0] == ' ' || line[0] == '\t' {
			if last == "" {
				return nil, fmt.Errorf("%w: control line %d continues nothing", ErrFormat, i+1)
			}
			c[last] += "\n" + strings.TrimSpace(line)
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("%w: control line %d has no field name", ErrFormat, i+1)
		}
		last = name
		c[name] = strings.TrimSpace(value)
	}
	return c, nil
}
