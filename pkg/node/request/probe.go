package request

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/kedgeos/kedge/pkg/node/update"
)

// probeLimit is how long one probe may take.
const probeLimit = 10 * time.Second

// Probes makes probes, all at once, and returns those that failed, by name.
func Probes(ctx context.Context, probes []update.Probe) map[string]error {
	var (
		mu     sync.Mutex
		wait   sync.WaitGroup
		failed = map[string]error{}
	)
	for _, p := range probes {
		wait.Go(func() {
			if err := Probe(ctx, p); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed["probe "+p.Name] = err
			}
		})
	}
	wait.Wait()
	return failed
}

// Probe makes one probe.
func Probe(ctx context.Context, p update.Probe) error {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	if p.TCP != "" {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.TCP)
		if err != nil {
			return err
		}
		return c.Close()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, nil)
	if err != nil {
		return err
	}
	// Without redirects: they are answers of 300 to 399, and well.
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("%s answered %s", p.URL, resp.Status)
	}
	return nil
}
