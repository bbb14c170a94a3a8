package controller

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/client-go/rest"
)

// An api is an API server in memory, as far as the controller needs one. It
// speaks HTTP, so all of the client is in the tests.
type api struct {
	*httptest.Server
	t *testing.T

	lock    sync.Mutex
	version int
	objects map[string]map[string]object // by resource, then by name or namespace/name
	history []event
	news    chan struct{} // closed with the next event
	asked   map[string]bool

	// treat is called before a write to our own resources, with its number, by
	// whoever holds the token. It returns whether it is done, and whether the
	// client hears of that.
	treat func(token string) (does, tells bool)
	dead  map[string]bool // tokens that are answered no more
	bans  map[string]bool // resources that may not be written
}

type object = map[string]any

type event struct {
	version  int
	resource string
	Type     string `json:"type"`
	Object   object `json:"object"`
}

// kinds are those that are served.
var kinds = map[string]string{
	"plans": "Plan", "nodeupgrades": "NodeUpgrade", "nodes": "Node", "leases": "Lease", "events": "Event", "configmaps": "ConfigMap", "deployments": "Deployment",
	"customresourcedefinitions": definitions, "validatingadmissionpolicies": "ValidatingAdmissionPolicy", "validatingadmissionpolicybindings": "ValidatingAdmissionPolicyBinding",
}

func newAPI(t *testing.T) *api {
	a := &api{t: t, objects: map[string]map[string]object{}, news: make(chan struct{}), asked: map[string]bool{}, dead: map[string]bool{}, bans: map[string]bool{}}
	a.treat = func(string) (bool, bool) { return true, true }
	a.Server = httptest.NewServer(a)
	t.Cleanup(func() {
		a.CloseClientConnections()
		a.Close()
	})
	return a
}

func (a *api) config(token string) *rest.Config {
	return &rest.Config{Host: a.URL, BearerToken: token, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
}

func copied(o object) object {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	var c object
	if err := json.Unmarshal(b, &c); err != nil {
		panic(err)
	}
	return c
}

func metadata(o object) object {
	m, ok := o["metadata"].(object)
	if !ok {
		m = object{}
		o["metadata"] = m
	}
	return m
}

// put stores an object, tells of it, and returns it as it is now.
func (a *api) put(resource, key string, o object) object {
	a.version++
	o = copied(o)
	old, m := a.objects[resource][key], metadata(o)
	kind := "MODIFIED"
	if old == nil {
		kind = "ADDED"
		m["uid"], m["generation"], m["creationTimestamp"] = fmt.Sprint("uid-", a.version), 1, "2026-11-21T00:00:00Z"
	} else if m["generation"] = metadata(old)["generation"]; !reflect.DeepEqual(o["spec"], old["spec"]) {
		n, _ := strconv.Atoi(fmt.Sprint(m["generation"]))
		m["generation"] = n + 1
	}
	m["resourceVersion"] = strconv.Itoa(a.version)
	if a.objects[resource] == nil {
		a.objects[resource] = map[string]object{}
	}
	o = copied(o)
	a.objects[resource][key] = o
	a.tell(kind, resource, o)
	return o
}

func (a *api) remove(resource, key string) {
	o := a.objects[resource][key]
	if o == nil {
		return
	}
	a.version++
	o = copied(o)
	metadata(o)["resourceVersion"] = strconv.Itoa(a.version)
	delete(a.objects[resource], key)
	a.tell("DELETED", resource, o)
}

func (a *api) tell(kind, resource string, o object) {
	a.history = append(a.history, event{a.version, resource, kind, o})
	close(a.news)
	a.news = make(chan struct{})
}

// A request is one, taken apart.
type request struct {
	group, version, namespace, resource, name, sub string
}

func (r request) key() string {
	if r.namespace == "" {
		return r.name
	}
	return r.namespace + "/" + r.name
}

func parse(path string) (r request) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if parts[0] == "apis" && len(parts) > 1 {
		r.group, parts = parts[1], parts[1:]
	}
	if parts = parts[1:]; len(parts) > 0 {
		r.version, parts = parts[0], parts[1:]
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		r.namespace, parts = parts[1], parts[2:]
	}
	for _, to := range []*string{&r.resource, &r.name, &r.sub} {
		if len(parts) > 0 {
			*to, parts = parts[0], parts[1:]
		}
	}
	return r
}

func refuse(w http.ResponseWriter, code int, reason string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": reason})
}

func (a *api) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	token := strings.TrimPrefix(q.Header.Get("Authorization"), "Bearer ")
	r := parse(q.URL.Path)
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return
	}
	if q.URL.Query().Get("watch") != "" {
		a.watch(w, q, r)
		return
	}
	a.lock.Lock()
	defer a.lock.Unlock()
	if a.dead[token] {
		panic(http.ErrAbortHandler)
	}
	if r.resource == "" {
		discover(w, q.URL.Path)
		return
	}
	if kinds[r.resource] == "" {
		refuse(w, http.StatusNotFound, "NotFound")
		return
	}
	write := q.Method != http.MethodGet
	if write && a.bans[r.resource] {
		refuse(w, http.StatusForbidden, "Forbidden")
		return
	}
	tells := true
	if own := r.resource == "plans" || r.resource == "nodeupgrades"; write && own {
		var does bool
		if does, tells = a.treat(token); !does {
			panic(http.ErrAbortHandler)
		}
	}
	status, answer := a.serve(q, r, body)
	if !tells || a.dead[token] {
		panic(http.ErrAbortHandler)
	}
	if status >= 400 {
		refuse(w, status, answer.(string))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

func (a *api) note(verb string, r request) {
	if r.resource == "" {
		return
	}
	resource := r.resource
	if r.sub != "" {
		resource += "/" + r.sub
	}
	a.asked[strings.Join([]string{verb, r.group, r.namespace, resource, r.name}, " ")] = true
}

// serve answers all but watches.
func (a *api) serve(q *http.Request, r request, body []byte) (int, any) {
	there := a.objects[r.resource][r.key()]
	var sent object
	if q.Method == http.MethodPost || q.Method == http.MethodPut {
		if err := json.Unmarshal(body, &sent); err != nil {
			return 400, "BadRequest"
		}
	}
	switch q.Method {
	case http.MethodGet:
		if r.name == "" {
			a.note("list", r)
			return 200, a.list(q, r)
		}
		a.note("get", r)
		if there == nil {
			return 404, "NotFound"
		}
		return 200, there
	case http.MethodPost:
		a.note("create", r)
		r.name, _ = metadata(sent)["name"].(string)
		if a.objects[r.resource][r.key()] != nil {
			return 409, "AlreadyExists"
		}
		sent["kind"], sent["apiVersion"] = kinds[r.resource], apiVersion(r)
		return 201, a.put(r.resource, r.key(), sent)
	case http.MethodPut:
		a.note("update", r)
		if there == nil || metadata(sent)["resourceVersion"] != metadata(there)["resourceVersion"] {
			return 409, "Conflict"
		}
		sent["kind"], sent["apiVersion"] = kinds[r.resource], apiVersion(r)
		return 200, a.put(r.resource, r.key(), sent)
	case http.MethodPatch:
		a.note("patch", r)
		return a.patch(q, r, there, body)
	}
	return 405, "MethodNotAllowed"
}

func apiVersion(r request) string {
	if r.group == "" {
		return r.version
	}
	return r.group + "/" + r.version
}

func (a *api) patch(q *http.Request, r request, there object, body []byte) (int, any) {
	if q.Header.Get("Content-Type") == "application/apply-patch+yaml" {
		var sent object
		if err := json.Unmarshal(body, &sent); err != nil {
			return 400, "BadRequest"
		}
		sent["status"] = object{"conditions": []any{object{"type": "Established", "status": "True"}}}
		return 200, a.put(r.resource, r.key(), sent)
	}
	if there == nil {
		return 404, "NotFound"
	}
	if q.Header.Get("Content-Type") != "application/json-patch+json" {
		return 200, there // of events
	}
	p, err := jsonpatch.DecodePatch(body)
	if err != nil {
		return 400, "BadRequest"
	}
	before, _ := json.Marshal(there)
	after, err := p.Apply(before)
	if err != nil {
		return 422, "Invalid"
	}
	var o object
	if err := json.Unmarshal(after, &o); err != nil {
		return 400, "BadRequest"
	}
	// As with every resource that has a status: one of both is written.
	kept := "status"
	if r.sub == "status" {
		kept = "spec"
	}
	o[kept] = there[kept]
	if o[kept] == nil {
		delete(o, kept)
	}
	if reflect.DeepEqual(o, there) {
		return 200, there
	}
	return 200, a.put(r.resource, r.key(), o)
}

func (a *api) list(q *http.Request, r request) object {
	items := []any{}
	for _, key := range slices.Sorted(maps.Keys(a.objects[r.resource])) {
		if r.namespace == "" || strings.HasPrefix(key, r.namespace+"/") {
			items = append(items, a.objects[r.resource][key])
		}
	}
	return object{"kind": kinds[r.resource] + "List", "apiVersion": apiVersion(r), "metadata": object{"resourceVersion": strconv.Itoa(a.version)}, "items": items}
}

// discover says what is served, for checks.
func discover(w http.ResponseWriter, path string) {
	version := object{"groupVersion": "apps/v1", "version": "v1"}
	answer := object{"kind": "APIVersions", "versions": []any{}}
	switch path {
	case "/apis":
		answer = object{"kind": "APIGroupList", "groups": []any{object{"name": "apps", "versions": []any{version}, "preferredVersion": version}}}
	case "/apis/apps/v1":
		answer = object{"kind": "APIResourceList", "groupVersion": "apps/v1", "resources": []any{object{"name": "deployments", "kind": "Deployment", "namespaced": true, "verbs": []any{"list"}}}}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func (a *api) watch(w http.ResponseWriter, q *http.Request, r request) {
	if q.URL.Query().Get("sendInitialEvents") != "" {
		refuse(w, http.StatusUnprocessableEntity, "Invalid") // lists are asked for then
		return
	}
	from, _ := strconv.Atoi(q.URL.Query().Get("resourceVersion"))
	token := strings.TrimPrefix(q.Header.Get("Authorization"), "Bearer ")
	w.Header().Set("Content-Type", "application/json")
	flush := w.(http.Flusher)
	flush.Flush()
	a.lock.Lock()
	a.note("watch", r)
	a.lock.Unlock()
	for next := 0; ; {
		a.lock.Lock()
		news, events, dead := a.news, a.history[next:], a.dead[token]
		next = len(a.history)
		a.lock.Unlock()
		if dead {
			return
		}
		for _, e := range events {
			if e.version > from && e.resource == r.resource {
				if json.NewEncoder(w).Encode(e) != nil {
					return
				}
			}
		}
		flush.Flush()
		select {
		case <-q.Context().Done():
			return
		case <-news:
		}
	}
}
