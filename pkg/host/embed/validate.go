package embed

import "github.com/kedgeos/kedge/pkg/api/config"

// validate returns what is wrong with a config, one text for each problem.
func validate(name string, text []byte) []string {
	var problems []string
	for _, p := range config.Validate(name, text) {
		problems = append(problems, p.String())
	}
	return problems
}
