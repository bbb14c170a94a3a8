package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/kedgeos/kedge/pkg/sys/fetch"
)

// A wire is the network as a transfer may use it: no plain HTTP unless allowed,
// no standing still, and no faster than the limit.
type wire struct {
	inner    *http.Transport
	insecure bool // plain HTTP to any host
	plain    bool // plain HTTP to the registry
	stall    time.Duration
	pace     *fetch.Pace
}

var errStall = errors.New("no data moved")

func newWire(a Access, host string, o Options) (*wire, error) {
	var roots *x509.CertPool
	if len(a.CA) > 0 {
		var err error
		if roots, err = x509.SystemCertPool(); err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM(a.CA) {
			return nil, errors.New("read CA: no PEM certificate in it")
		}
	}
	var own []tls.Certificate
	if len(a.Certificate) > 0 {
		pair, err := tls.X509KeyPair(a.Certificate, a.Key)
		if err != nil {
			return nil, fmt.Errorf("read client certificate: %w", err)
		}
		own = append(own, pair)
	}
	return &wire{
		inner: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout: 15 * time.Second,
			TLSClientConfig:     &tls.Config{RootCAs: roots, Certificates: own, InsecureSkipVerify: a.SkipVerify, MinVersion: tls.VersionTLS12},
			IdleConnTimeout:     30 * time.Second,
			ForceAttemptHTTP2:   true,
			DisableCompression:  true, // ranges count the bytes of the file
		},
		insecure: a.Insecure, plain: a.Insecure || loopback(hostname(host)),
		stall: o.Stall, pace: &fetch.Pace{Rate: o.Limit},
	}, nil
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !w.insecure && !loopback(req.URL.Hostname()) {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, fmt.Errorf("plain HTTP to %s is not allowed", req.URL.Host)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	f := &flow{ctx: ctx, cancel: cancel, w: w, dog: time.AfterFunc(w.stall, func() { cancel(errStall) })}
	resp, err := w.inner.RoundTrip(f.request(req))
	if err != nil {
		err = f.why(err)
		f.end()
		return nil, err
	}
	f.dog.Reset(w.stall)
	resp.Body = &body{ReadCloser: resp.Body, f: f, last: true}
	return resp, nil
}

// A flow is one request and its answer.
type flow struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	w      *wire
	dog    *time.Timer // barks when nothing has moved for too long
}

func (f *flow) end() {
	f.dog.Stop()
	f.cancel(nil)
}

// why returns errStall in place of the error that it led to.
func (f *flow) why(err error) error {
	if errors.Is(context.Cause(f.ctx), errStall) {
		return fmt.Errorf("%w for %v", errStall, f.w.stall)
	}
	return err
}

// request returns the request with its body under watch.
func (f *flow) request(req *http.Request) *http.Request {
	r := req.WithContext(f.ctx)
	if req.Body != nil && req.Body != http.NoBody {
		r.Body = &body{ReadCloser: req.Body, f: f}
	}
	if req.GetBody != nil {
		r.GetBody = func() (io.ReadCloser, error) {
			again, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			return &body{ReadCloser: again, f: f}, nil
		}
	}
	return r
}

// A body is read under watch and within the limit; the last one of a flow ends
// it.
type body struct {
	io.ReadCloser
	f    *flow
	last bool
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(b.f.w.pace.Cut(p))
	b.f.dog.Stop() // what the limit holds back is no standstill
	if wait := b.f.w.pace.Wait(b.f.ctx, n); wait != nil && err == nil {
		err = wait
	}
	b.f.dog.Reset(b.f.w.stall)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.f.why(err)
	}
	return n, err
}

func (b *body) Close() error {
	if b.last {
		defer b.f.end()
	}
	return b.ReadCloser.Close()
}

// explain gives an error of the registry or its client one of ours to be known
// by, and takes off what only repeats the request.
func (w *wire) explain(err error) error {
	var answer *transport.Error
	var certificate *tls.CertificateVerificationError
	var request *url.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &certificate):
		if _, early := fetch.NotYetValid(err, time.Now()); early {
			return certificate
		}
		return final{certificate}
	case errors.As(err, &answer):
		return answered(answer)
	case !w.plain && errors.Is(err, http.ErrSchemeMismatch):
		return final{http.ErrSchemeMismatch}
	case errors.As(err, &request):
		return request.Err
	}
	return err
}

func answered(answer *transport.Error) error {
	switch code := answer.StatusCode; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return fmt.Errorf("%w: %w", ErrUnauthorized, answer)
	case code == http.StatusNotFound:
		return fmt.Errorf("%w: %w", ErrNotFound, answer)
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooManyRequests:
		return answer
	}
	return final{answer}
}
