package main

import (
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

// Checks of both kinds are told by the words of the configuration.
func TestRunChecks(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ill" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	open := listener.Addr().String()
	quiet, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := quiet.Addr().String()
	quiet.Close()
	bad := []string{"false", server.URL + "/ill", "tcp://" + gone}
	failed := runChecks(t.Context(), append([]string{"true", server.URL + "/well", "tcp://" + open}, bad...))
	slices.Sort(bad)
	if got := slices.Sorted(maps.Keys(failed)); !slices.Equal(got, bad) {
		t.Errorf("failed: %v", failed)
	}
}
