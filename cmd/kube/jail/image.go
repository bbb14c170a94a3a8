package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
)

// writeImage makes a tar file with the OCI layout of an image that is one
// static program, which it starts.
//
// Source: OCI image specification 1.1, image-layout.md.
func writeImage(file, name, program string) error {
	data, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	entry := "/" + filepath.Base(program)
	layer, err := tarOf([]member{{path.Base(entry), 0o755, data}})
	if err != nil {
		return err
	}
	config := marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{entry}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(layer)}},
	})
	const kind = "application/vnd.oci.image."
	manifest := marshal(map[string]any{
		"schemaVersion": 2, "mediaType": kind + "manifest.v1+json",
		"config": descriptor(kind+"config.v1+json", config),
		"layers": []any{descriptor(kind+"layer.v1.tar", layer)},
	})
	index := descriptor(kind+"manifest.v1+json", manifest)
	index["annotations"] = map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
	out, err := tarOf([]member{
		{"oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{"index.json", 0o644, marshal(map[string]any{"schemaVersion": 2, "manifests": []any{index}})},
		blob(layer), blob(config), blob(manifest),
	})
	if err != nil {
		return err
	}
	return os.WriteFile(file, out, 0o644)
}

type member struct {
	name string
	mode int64
	data []byte
}

func tarOf(members []member) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range members {
		if err := w.WriteHeader(&tar.Header{Name: m.name, Mode: m.mode, Size: int64(len(m.data))}); err != nil {
			return nil, err
		}
		if _, err := io.Copy(w, bytes.NewReader(m.data)); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func blob(data []byte) member {
	return member{"blobs/sha256/" + digest(data)[len("sha256:"):], 0o644, data}
}

func descriptor(mediaType string, data []byte) map[string]any {
	return map[string]any{"mediaType": mediaType, "digest": digest(data), "size": len(data)}
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps and strings always marshal
	}
	return b
}
