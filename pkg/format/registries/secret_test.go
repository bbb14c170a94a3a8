package registries

import (
	"regexp"
	"slices"
	"testing"
)

func TestFiles(t *testing.T) {
	f, err := Parse([]byte("configs:\n  a.example:\n    tls: {ca_file: /etc/ca.pem, cert_file: /c, key_file: /k}\n  b.example:\n    tls: {ca_file: /etc/ca.pem}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Files(); !slices.Equal(got, []string{"/c", "/etc/ca.pem", "/k"}) {
		t.Errorf("Files = %q", got)
	}
	key := regexp.MustCompile(`^[-._a-zA-Z0-9]{1,253}$`)
	seen := map[string]bool{}
	for _, path := range append(f.Files(), Path, "/etc/ca_pem") {
		k := SecretKey(path)
		if !key.MatchString(k) || seen[k] {
			t.Errorf("SecretKey(%s) = %s", path, k)
		}
		seen[k] = true
	}
}
