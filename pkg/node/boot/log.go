package boot

import (
	"io"

	"github.com/sirupsen/logrus"

	"github.com/kedgeos/kedge/pkg/sys/kernel"
)

// LogTo sends the log of this process to the kernel's, where it stands in order
// with what the kernel says and survives a panic, and to w unless that is nil.
func LogTo(w io.Writer) {
	logrus.SetFormatter(&logrus.TextFormatter{DisableColors: true, DisableTimestamp: true})
	log, err := kernel.OpenLog()
	switch {
	case err != nil && w == nil:
		return
	case err != nil:
		logrus.SetOutput(w)
	case w == nil:
		logrus.SetOutput(log)
	default:
		logrus.SetOutput(io.MultiWriter(w, log))
	}
}
