// Package say writes kube's own log lines to standard error. The standard
// library's logger will not do: the components take it over for their own.
package say

import (
	"log"
	"os"
)

var logger = log.New(os.Stderr, "kube: ", 0)

// Printf writes one line.
func Printf(format string, args ...any) { logger.Printf(format, args...) }
