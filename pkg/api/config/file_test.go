package config

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io/fs"
	"strings"
	"testing"
)

func packed(data []byte) string {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	w.Write(data)
	w.Close()
	return b.String()
}

func TestFileBytes(t *testing.T) {
	both := base64.StdEncoding.EncodeToString([]byte(packed([]byte("hello"))))
	for _, encoding := range Encodings() {
		content := map[bool]string{false: "hello"}[len(encodings[encoding]) > 0]
		switch len(encodings[encoding]) {
		case 2:
			content = both[:7] + "\n  " + both[7:]
		case 1:
			content = map[bool]string{true: packed([]byte("hello")), false: "aGVs\r\nbG8="}[strings.HasPrefix(encoding, "g")]
		}
		got, err := File{Content: content, Encoding: encoding}.Bytes()
		if err != nil || string(got) != "hello" {
			t.Errorf("%q: %q, %v", encoding, got, err)
		}
	}
	if got, err := (File{Content: "aGVsbG8", Encoding: "b64"}).Bytes(); err != nil || string(got) != "hello" {
		t.Errorf("base64 without padding: %q, %v", got, err)
	}
}

func TestFileBytesRefuses(t *testing.T) {
	bomb := packed(make([]byte, MaxFile+1))
	for _, tt := range []struct{ content, encoding, want string }{
		{"a", "rot13", `unknown encoding "rot13"`},
		{"a!", "b64", "decode base64"},
		{"hello", "gzip", "decode gzip"},
		{packed([]byte("hello"))[:20], "gzip", "decode gzip: unexpected EOF"},
		{bomb, "gz", "decode gzip: more than 16 MiB"},
	} {
		if _, err := (File{Content: tt.content, Encoding: tt.encoding}).Bytes(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.encoding, err, tt.want)
		}
	}
}

// TestManyBombs has many files that unpack to what one may have; together they
// are refused.
func TestManyBombs(t *testing.T) {
	text := "write_files:\n- { path: /0, encoding: gz+b64, content: &c " + base64.StdEncoding.EncodeToString([]byte(packed(make([]byte, MaxFile)))) + " }\n"
	text += strings.Repeat("- { path: /x, encoding: gz+b64, content: *c }\n", 1000)
	layer, problems := Parse("f", []byte(text))
	if n := len(layer.Config.WriteFiles); n > MaxFiles/MaxFile+1 || n+len(problems) != 1001 {
		t.Errorf("%d files, %d problems", n, len(problems))
	}
}

func TestFileMode(t *testing.T) {
	for permissions, want := range map[string]fs.FileMode{
		"": 0o644, "0644": 0o644, "755": 0o755, "0o600": 0o600, "4755": 0o755 | fs.ModeSetuid, "01777": 0o777 | fs.ModeSticky, "2750": 0o750 | fs.ModeSetgid,
	} {
		if got, err := (File{Permissions: permissions}).Mode(); err != nil || got != want {
			t.Errorf("%q: %v, %v", permissions, got, err)
		}
	}
	for _, permissions := range []string{"rw", "-1", "0999", "17777", " "} {
		if got, err := (File{Permissions: permissions}).Mode(); err == nil {
			t.Errorf("%q: %v", permissions, got)
		}
	}
}

func TestFileTarget(t *testing.T) {
	for path, want := range map[string]string{"etc/a": "/etc/a", "/a//b": "/a/b", "../../a": "/a", "/": "/"} {
		if got := (File{Path: path}).Target(); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}
