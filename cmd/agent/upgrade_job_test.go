package main

import "testing"

func TestJobImage(t *testing.T) {
	for _, c := range []struct{ image, version, want string }{
		{"registry.example/os/kedge", "v0.2.0", "registry.example/os/kedge:v0.2.0"},
		{"registry.example:5000/kedge", "v1.37.0+k3s1", "registry.example:5000/kedge:v1.37.0-k3s1"},
		{"registry.example/kedge:v1", "v2", "registry.example/kedge:v1"},
		{"registry.example/kedge@sha256:12", "", "registry.example/kedge@sha256:12"},
		{"registry.example:5000/kedge", "", ""},
	} {
		got, err := jobImage(c.image, c.version)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("jobImage(%s, %s) = %q, %v, want %q", c.image, c.version, got, err, c.want)
		}
	}
}
