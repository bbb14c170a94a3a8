package source

import (
	"fmt"
	"time"

	"github.com/kedgeos/kedge/pkg/sys/fetch"
)

// ClockBehind says that an error comes of this machine's clock: a certificate
// that is not valid yet. It returns "" for all other errors. The certificates of
// TLS are all that a wrong clock breaks: signatures, digests and versions do not
// ask for the time.
func ClockBehind(err error, now time.Time) string {
	made, ok := fetch.NotYetValid(err, now)
	if !ok {
		return ""
	}
	return fmt.Sprintf(`the clock of this machine says %s, but the server's certificate was made %s: set it with "date -u -s 'YYYY-MM-DD hh:mm'", or name kedge.ntp_servers that can be reached`,
		now.UTC().Format("2006-01-02 15:04"), made.UTC().Format("2006-01-02"))
}
