package source

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// ClockBehind says that an error comes of this machine's clock: a certificate
// that is not valid yet. It returns "" for all other errors. The certificates of
// TLS are all that a wrong clock breaks: signatures, digests and versions do not
// ask for the time.
func ClockBehind(err error, now time.Time) string {
	var invalid x509.CertificateInvalidError
	if !errors.As(err, &invalid) || invalid.Reason != x509.Expired || invalid.Cert == nil || !now.Before(invalid.Cert.NotBefore) {
		return ""
	}
	return fmt.Sprintf(`the clock of this machine says %s, but the server's certificate was made %s: set it with "date -u -s 'YYYY-MM-DD hh:mm'", or name kedge.ntp_servers that can be reached`,
		now.UTC().Format("2006-01-02 15:04"), invalid.Cert.NotBefore.UTC().Format("2006-01-02"))
}
