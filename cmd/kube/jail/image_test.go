package main

import (
	"archive/tar"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteImageIsALayout(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "hello")
	if err := os.WriteFile(program, []byte("#!"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "hello.tar")
	if err := writeImage(file, "kedge.local/hello:v1", program); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	members := map[string][]byte{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if members[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	var index struct {
		Manifests []struct {
			Digest      string
			Annotations map[string]string
		}
	}
	if err := json.Unmarshal(members["index.json"], &index); err != nil || len(index.Manifests) != 1 {
		t.Fatalf("index.json: %+v, %v", index, err)
	}
	if name := index.Manifests[0].Annotations["io.containerd.image.name"]; name != "kedge.local/hello:v1" {
		t.Errorf("the image is called %q", name)
	}
	for name, data := range members {
		if hash, ok := cut(name); ok && digest(data) != "sha256:"+hash {
			t.Errorf("%s holds %s", name, digest(data))
		}
	}
	if _, ok := members["blobs/sha256/"+index.Manifests[0].Digest[len("sha256:"):]]; !ok {
		t.Error("the manifest is not in the layout")
	}
}

func cut(name string) (hash string, ok bool) {
	dir, hash := filepath.Split(name)
	return hash, dir == "blobs/sha256/"
}
