package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// dialIn returns a dialer whose sockets are in the network namespace at path.
// A socket stays in the namespace it was made in.
func dialIn(path string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		type result struct {
			conn net.Conn
			err  error
		}
		done := make(chan result)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with its goroutine
			if err := setns(path); err != nil {
				done <- result{nil, err}
				return
			}
			conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, address)
			done <- result{conn, err}
		}()
		r := <-done
		return r.conn, r.err
	}
}

func setns(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, errno := syscall.RawSyscall(sysSetns, f.Fd(), syscall.CLONE_NEWNET, 0); errno != 0 {
		return fmt.Errorf("enter %s: %w", path, errno)
	}
	return nil
}

// An API talks to the API server of a node as its administrator.
type API struct {
	client http.Client
	url    string
}

// newAPI reads the administrator's kubeconfig; it fails while there is none.
func newAPI(kubeconfig, namespace string) (*API, error) {
	data, err := os.ReadFile(kubeconfig)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(field(data, "client-certificate-data"), field(data, "client-key-data"))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", kubeconfig, err)
	}
	return &API{
		url: "https://127.0.0.1:6443",
		client: http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
			DialContext: dialIn(namespace),
			// The server is in our own jail; its certificate has tests elsewhere.
			TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true},
		}},
	}, nil
}

// field returns the decoded value of a base64 field of a kubeconfig.
func field(data []byte, name string) []byte {
	_, rest, _ := bytes.Cut(data, []byte(name+": "))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	value, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(line)))
	if err != nil {
		return nil
	}
	return value
}

var errStatus = errors.New("unexpected status")

// do sends body, if any, and decodes the answer into out, if any.
func (a *API) do(ctx context.Context, method, path string, body string, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, a.url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/yaml")
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %w %s: %s", method, path, errStatus, resp.Status, data)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}

// object is what we need of nodes and pods.
type object struct {
	Metadata struct{ Name, UID, Namespace string }
	Spec     struct{ NodeName, ClusterIP string }
	Status   struct {
		PodIP      string
		Phase      string
		Conditions []struct{ Type, Status string }
	}
}

// ready tells whether a node or pod says so of itself.
func (o object) ready() bool {
	for _, c := range o.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

func (a *API) get(ctx context.Context, path string) (o object, err error) {
	return o, a.do(ctx, http.MethodGet, path, "", &o)
}

func (a *API) list(ctx context.Context, path string) ([]object, error) {
	var l struct{ Items []object }
	return l.Items, a.do(ctx, http.MethodGet, path, "", &l)
}

// lookup asks a DNS server, in a network namespace, for the IPv4 address of a
// name.
func lookup(ctx context.Context, namespace, server, name string) (net.IP, error) {
	conn, err := dialIn(namespace)(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	query := []byte{0x4b, 0x45, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0} // recursion wanted, one question
	for _, label := range strings.Split(strings.TrimSuffix(name, "."), ".") {
		query = append(append(query, byte(len(label))), label...)
	}
	query = append(query, 0, 0, 1, 0, 1) // root, type A, class IN
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	answer := make([]byte, 512)
	n, err := conn.Read(answer)
	if err != nil {
		return nil, err
	}
	if n < len(query)+16 || binary.BigEndian.Uint16(answer[6:]) == 0 {
		return nil, fmt.Errorf("look up %s: no answer in %x", name, answer[:n])
	}
	return net.IP(answer[n-4 : n]), nil // the one record ends with the address
}
