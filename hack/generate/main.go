// Command generate writes the files that follow from the configuration's
// schema: its JSON schema, its reference and config.yaml.example. It runs in
// pkg/api/config, by "make generate".
package main

import (
	"fmt"
	"os"

	"github.com/kedgeos/kedge/pkg/api/config"
)

func main() {
	for path, data := range map[string][]byte{
		"schema.json":                  config.Schema(),
		"REFERENCE.md":                 config.Reference(),
		"../../../config.yaml.example": config.Example(),
	} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			fmt.Fprintf(os.Stderr, "generate: %v\n", err)
			os.Exit(1)
		}
	}
}
