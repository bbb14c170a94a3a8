package datasource

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/kedgeos/kedge/pkg/api/config"
)

// A kind of source that an installation may lose: the stick is taken out, another
// boot loader starts the kernel. Its value begins the names of the files in State
// that stand for it, and so places them between the configuration that was
// installed and the answers of a person.
type kind string

const (
	ofMedium  kind = "55-medium"
	ofCmdline kind = "57-cmdline"
)

// keptMedia is the number of files that media can have in State.
const keptMedia = 4

func mark(found []Found, k kind) {
	for i := range found {
		found[i].passing = k
	}
}

// replaces tells whether a file of State is for the time when this source is away.
// One that says nothing sound replaces nothing.
func (f Found) replaces(file string) bool {
	fatal := slices.ContainsFunc(f.Problems, func(p config.Problem) bool { return p.Fatal })
	return f.passing != "" && !fatal && strings.HasPrefix(file, string(f.passing))
}

// Kept returns what an installation takes along for the time when the sources that
// it had are away: files for State by their names, and the sources they came from.
// All names are there; a file of an earlier installation is overwritten by nothing.
func Kept(found []Found) (files map[string][]byte, from []string, err error) {
	files = map[string][]byte{string(ofCmdline) + ".yaml": nil}
	for n := range keptMedia {
		files[mediumFile(n)] = nil
	}
	media := 0
	for _, f := range found {
		name, text := string(f.passing)+".yaml", f.text
		switch f.passing {
		case ofMedium:
			name = mediumFile(media)
			media++
		case ofCmdline:
			f.Config.Kedge.Install = config.Install{} // that was for the installation
			if text, err = config.Marshal(f.Config); err != nil {
				return nil, nil, err
			}
		}
		said := bytes.TrimSpace(text)
		if f.passing == "" || media > keptMedia || len(said) == 0 || string(said) == "{}" {
			continue
		}
		files[name] = text
		from = append(from, f.Source)
	}
	return files, from, nil
}

func mediumFile(n int) string { return fmt.Sprintf("%s-%d.yaml", ofMedium, n+1) }
