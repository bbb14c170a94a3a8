package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kedgeos/kedge/pkg/sys/process"
)

// State says what a service is doing.
type State string

// The states. A service that ended and is not started again is stopped when
// that went well, else failed.
const (
	Running State = "running"
	Stopped State = "stopped"
	Waiting State = "backoff" // for its next start
	Failed  State = "failed"
)

// Status is what one service shows of itself.
type Status struct {
	Name     string    `json:"name"`
	State    State     `json:"state"`
	Pid      int       `json:"pid,omitempty"`
	Restarts int       `json:"restarts"`
	Since    time.Time `json:"since"` // of the state
	LastExit string    `json:"last_exit,omitempty"`
}

// ErrUnknown means that there is no service of that name.
var ErrUnknown = errors.New("no such service")

// ErrClosed means that the machine is going down.
var ErrClosed = errors.New("the machine is going down")

// Options say where services live; the zero value runs them without cgroups
// and keeps no log.
type Options struct {
	Load    func() ([]Definition, error) // reads all definitions; called again before each start
	Cgroups string                       // folder in which each service gets its leaf; "" for none
	Logs    string                       // folder of the ring logs; "" for none
	Console io.Writer                    // gets the lines of services with console: console; nil for none
	Env     []string                     // every service's environment begins with
	Log     *logrus.Logger               // nil for logrus' own
}

// A Supervisor runs services. It is safe for concurrent use.
type Supervisor struct {
	o Options

	mu       sync.Mutex
	services map[string]*service
	closed   bool
}

// New makes a supervisor that runs nothing yet. The error joins what is wrong
// in definitions; the sound ones are taken.
func New(o Options) (*Supervisor, error) {
	if o.Log == nil {
		o.Log = logrus.StandardLogger()
	}
	s := &Supervisor{o: o, services: map[string]*service{}}
	return s, s.reload()
}

// reload takes new definitions. A running service keeps the one it was
// started with until it is started anew.
func (s *Supervisor) reload() error {
	all, err := s.o.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range all {
		if known, ok := s.services[d.Name]; ok {
			known.redefine(d)
			continue
		}
		s.services[d.Name] = newService(d, s.o)
	}
	return err
}

// Autostart starts, in order, what belongs to the boot of this mode.
func (s *Supervisor) Autostart(mode string) error {
	var errs []error
	for _, d := range Order(s.definitions()) {
		if d.Autostart && d.In(mode) {
			errs = append(errs, s.Start(d.Name))
		}
	}
	return errors.Join(errs...)
}

func (s *Supervisor) definitions() []Definition {
	var all []Definition
	for _, v := range s.all() {
		all = append(all, v.definition())
	}
	return all
}

// all returns the services in order of their names.
func (s *Supervisor) all() []*service {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*service
	for _, v := range s.services {
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b *service) int { return strings.Compare(a.name, b.name) })
	return all
}

func (s *Supervisor) find(name string) (*service, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	v, ok := s.services[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, ErrUnknown)
	}
	return v, nil
}

// Start starts a service with its newest definition; one that runs is left
// alone. It does not wait until the service is of use.
func (s *Supervisor) Start(name string) error {
	if err := s.reload(); err != nil {
		s.o.Log.WithError(err).Warn("read services")
	}
	v, err := s.find(name)
	if err != nil {
		return err
	}
	v.start()
	return nil
}

// Stop stops a service and waits for its end.
func (s *Supervisor) Stop(name string) error {
	v, err := s.find(name)
	if err != nil {
		return err
	}
	v.stop()
	return nil
}

// Restart stops a service, if it runs, and starts it.
func (s *Supervisor) Restart(name string) error {
	if err := s.Stop(name); err != nil {
		return err
	}
	return s.Start(name)
}

// Services returns the status of all services, by name.
func (s *Supervisor) Services() []Status {
	all := []Status{}
	for _, v := range s.all() {
		all = append(all, v.status())
	}
	return all
}

// Shutdown stops all services for good: group by group in shutdown order,
// each after its shutdown command. It returns when all have ended.
func (s *Supervisor) Shutdown() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	groups := map[int][]*service{}
	var order []int
	for _, v := range s.all() {
		n := v.definition().Shutdown
		if groups[n] == nil {
			order = append(order, n)
		}
		groups[n] = append(groups[n], v)
	}
	slices.Sort(order)
	for _, n := range order {
		var group sync.WaitGroup
		for _, v := range groups[n] {
			group.Go(v.shutdown)
		}
		group.Wait()
	}
}

// hookTimeout bounds a shutdown command: a machine that shall go down goes
// down.
const hookTimeout = 3 * time.Minute

// A service is one that is known, whether it runs or not.
type service struct {
	name string
	o    Options
	log  *logrus.Entry
	ring *Ring
	pipe *os.File // the end that the service writes to; kept, so that what outlives it can write on

	run sync.Mutex // held while start or stop change what shall be

	mu     sync.Mutex
	d      Definition
	state  Status
	ever   bool               // it was started since boot
	cancel context.CancelFunc // asks the loop to end
	done   chan struct{}      // closed when the loop has ended
}

func newService(d Definition, o Options) *service {
	s := &service{name: d.Name, d: d, o: o, log: o.Log.WithField("service", d.Name)}
	s.state = Status{Name: d.Name, State: Stopped, Since: time.Now()}
	if o.Logs != "" {
		s.ring = OpenRing(filepath.Join(o.Logs, d.Name+".log"))
	}
	return s
}

func (s *service) redefine(d Definition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.d = d
}

func (s *service) definition() Definition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.d
}

func (s *service) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// set changes the state; change may fill in more.
func (s *service) set(state State, change func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.State, s.state.Since, s.state.Pid = state, time.Now(), 0
	if change != nil {
		change(&s.state)
	}
}

func (s *service) start() {
	s.run.Lock()
	defer s.run.Unlock()
	if s.done != nil {
		select {
		case <-s.done:
		default:
			return
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.done = cancel, make(chan struct{})
	s.mu.Lock()
	s.ever = true
	s.mu.Unlock()
	go s.loop(ctx, s.done)
}

func (s *service) stop() {
	s.run.Lock()
	defer s.run.Unlock()
	if s.done == nil {
		return
	}
	s.cancel()
	<-s.done
}

func (s *service) shutdown() {
	s.mu.Lock()
	hook, ever := s.d.ShutdownHook, s.ever
	s.mu.Unlock()
	s.stop() // else it would start again what the command ends
	if len(hook) > 0 && ever {
		s.log.Info("shutdown command")
		ctx, cancel := context.WithTimeout(context.Background(), hookTimeout)
		defer cancel()
		if err := (process.Command{Args: hook, Env: s.definition().env(s.o.Env), Dir: "/"}).Run(ctx); err != nil {
			s.log.WithError(err).Warn("shutdown command")
		}
	}
	if s.ring != nil {
		s.ring.Close()
	}
}

// loop runs the service until ctx ends or it is not to be started again.
func (s *service) loop(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	var pause time.Duration
	for {
		d := s.definition()
		begin := time.Now()
		err := s.once(ctx, d)
		exit := "exit status 0"
		if err != nil {
			exit = err.Error()
		}
		note := func(t *Status) { t.LastExit = exit }
		if ctx.Err() != nil {
			s.set(Stopped, note)
			return
		}
		s.log.WithField("exit", exit).Warn("service ended")
		if d.Restart == RestartNever || d.Restart == RestartOnFailure && err == nil {
			if err != nil {
				s.set(Failed, note)
			} else {
				s.set(Stopped, note)
			}
			return
		}
		pause = d.Backoff.Next(pause, time.Since(begin))
		s.set(Waiting, note)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			s.set(Stopped, nil)
			return
		}
		s.mu.Lock()
		s.state.Restarts++
		s.mu.Unlock()
	}
}

// once runs the service until it ends, by itself or because ctx did.
func (s *service) once(ctx context.Context, d Definition) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("supervisor: %v", r) // one service must not cost the machine
		}
	}()
	p, err := s.launch(d)
	if err != nil {
		return err
	}
	s.set(Running, func(t *Status) { t.Pid = p.Pid() })
	if d.OOMScore != 0 {
		os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.Pid()), fmt.Append(nil, d.OOMScore), 0)
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		s.terminate(p, d)
	}
	return p.Wait()
}

// terminate ends a service: first asking, then not.
func (s *service) terminate(p *process.Process, d Definition) {
	signal := func(name Signal) {
		if d.Kill == KillGroup {
			p.SignalGroup(signals[name])
			return
		}
		p.Signal(signals[name])
	}
	signal(d.StopSignal)
	select {
	case <-p.Done():
	case <-time.After(d.StopTimeout):
		s.log.Warn("did not stop in time, killed")
		signal("KILL")
		<-p.Done()
	}
	if d.Kill == KillGroup {
		signal("KILL") // those of the group that did not go with their leader
	}
}

// launch starts the program of the service.
func (s *service) launch(d Definition) (*process.Process, error) {
	argv, err := d.argv()
	if err != nil {
		return nil, err
	}
	c := process.Command{Args: argv, Env: d.env(s.o.Env), Dir: d.Directory, Group: d.Kill == KillGroup}
	if s.o.Cgroups != "" {
		c.Cgroup = filepath.Join(s.o.Cgroups, d.Cgroup)
		if err := os.MkdirAll(c.Cgroup, 0o755); err != nil {
			return nil, err
		}
	}
	if d.Terminal != "" {
		tty, err := os.OpenFile("/dev/"+d.Terminal, os.O_RDWR|noControl, 0)
		if err != nil {
			return nil, err
		}
		defer tty.Close()
		c.Stdin, c.Stdout, c.Stderr, c.Session, c.Terminal = tty, tty, tty, true, true
		return c.Start()
	}
	if c.Stdout, err = s.output(d); err != nil {
		return nil, err
	}
	c.Stderr = c.Stdout
	return c.Start()
}

// output returns where the service writes to: one pipe for all its runs.
func (s *service) output(d Definition) (*os.File, error) {
	if s.pipe != nil {
		return s.pipe, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.pipe = w
	var to []io.Writer
	if s.ring != nil {
		to = append(to, s.ring)
	}
	if d.Console != "" && s.o.Console != nil {
		to = append(to, &prefixer{to: s.o.Console, prefix: d.Name + ": "})
	}
	go io.Copy(io.MultiWriter(to...), r)
	return w, nil
}
