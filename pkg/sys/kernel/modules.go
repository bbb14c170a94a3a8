package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/kedgeos/kedge/pkg/format/modalias"
)

// Modules loads kernel modules from one folder, each once, those that another
// needs in front of it. It is safe for concurrent use.
type Modules struct {
	dir     string
	index   modalias.Index
	modules modalias.Modules
	load    func(path string) error // finit_module, or a test's

	mu     sync.Mutex
	files  map[string]*attempt // by path below dir
	closed bool
}

// An attempt is one file's load: done is closed when it has an outcome.
type attempt struct {
	done chan struct{}
	err  error
}

// AliasFile is the prepared alias index in a folder of modules.
const AliasFile = "kedge.alias"

// OpenModules reads the indexes of /usr/lib/modules/VERSION for the running
// kernel.
func OpenModules() (*Modules, error) {
	version, err := Version()
	if err != nil {
		return nil, err
	}
	return openModules(filepath.Join("/usr/lib/modules", version), loadFile)
}

func openModules(dir string, load func(string) error) (*Modules, error) {
	alias, err := os.ReadFile(filepath.Join(dir, AliasFile))
	if err != nil {
		return nil, err
	}
	index, err := modalias.Decode(alias)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, AliasFile), err)
	}
	dep, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, err
	}
	soft, err := os.ReadFile(filepath.Join(dir, "modules.softdep"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	modules, err := modalias.ReadModules(bytes.NewReader(dep), bytes.NewReader(soft))
	if err != nil {
		return nil, fmt.Errorf("read modules of %s: %w", dir, err)
	}
	return &Modules{dir: dir, index: index, modules: modules, load: load, files: map[string]*attempt{}}, nil
}

// Load loads the named modules and what they need. A name without a file is
// passed over: it may be part of the kernel. All are tried; the error joins
// those that did not load.
func (m *Modules) Load(names ...string) error {
	return parallel(names, Workers(), func(name string) error {
		var errs []error
		for _, file := range m.modules.Order(name) {
			if err := m.once(file); err != nil {
				errs = append(errs, fmt.Errorf("load module %s: %w", modalias.Name(file), err))
			}
		}
		return errors.Join(errs...)
	})
}

// LoadFor loads the modules that serve a device, given its alias.
func (m *Modules) LoadFor(alias string) error { return m.Load(m.index.Match(alias)...) }

// Coldplug loads the modules for all devices that are there now, for so many
// of them at once. More may appear while it runs; it looks again until a look
// finds nothing new.
func (m *Modules) Coldplug(atOnce int) error { return m.coldplug("/sys/devices", atOnce) }

func (m *Modules) coldplug(devices string, atOnce int) error {
	var errs []error
	seen := map[string]bool{}
	for {
		fresh := slices.DeleteFunc(aliases(devices), func(a string) bool { return seen[a] })
		if len(fresh) == 0 {
			return errors.Join(errs...)
		}
		for _, a := range fresh {
			seen[a] = true
		}
		errs = append(errs, parallel(fresh, atOnce, m.LoadFor))
	}
}

// Workers is how many modules are best loaded at once by one who waits for
// them: the start of a driver waits for its hardware more than it computes.
func Workers() int { return max(2, runtime.NumCPU()) }

// parallel calls do for each name, several at once.
func parallel(names []string, atOnce int, do func(string) error) error {
	if len(names) == 1 {
		return do(names[0])
	}
	work := make(chan string)
	var mu sync.Mutex
	var errs []error
	var workers sync.WaitGroup
	for range min(len(names), atOnce) {
		workers.Go(func() {
			for name := range work {
				if err := do(name); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, name := range names {
		work <- name
	}
	close(work)
	workers.Wait()
	return errors.Join(errs...)
}

// aliases returns the aliases of all devices below a folder of sysfs, each
// once.
func aliases(devices string) []string {
	var found []string
	filepath.WalkDir(devices, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "modalias" {
			return nil // a device may go while we look
		}
		if b, err := os.ReadFile(path); err == nil && len(b) > 1 {
			found = append(found, strings.TrimSpace(string(b)))
		}
		return nil
	})
	slices.Sort(found)
	return slices.Compact(found)
}

// once loads a file unless that was tried before; whoever comes second waits
// for the outcome of the first.
func (m *Modules) once(file string) error {
	m.mu.Lock()
	a, tried := m.files[file]
	if !tried && m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	if !tried {
		a = &attempt{done: make(chan struct{})}
		m.files[file] = a
	}
	m.mu.Unlock()
	if tried {
		<-a.done
		return nil // told already
	}
	a.err = harmless(m.load(filepath.Join(m.dir, file)))
	close(a.done)
	return a.err
}

// harmless drops the errors that say nothing is wrong: the module is there,
// or finds none of its hardware.
func harmless(err error) error {
	if errors.Is(err, syscall.EEXIST) || errors.Is(err, syscall.ENODEV) {
		return nil
	}
	return err
}

// ErrClosed means that Close was called.
var ErrClosed = errors.New("no more modules are loaded")

// Close keeps further modules from being loaded and waits for those that are
// on their way, because the folder they come from is about to go.
func (m *Modules) Close() {
	m.mu.Lock()
	m.closed = true
	var running []*attempt
	for _, a := range m.files {
		running = append(running, a)
	}
	m.mu.Unlock()
	for _, a := range running {
		<-a.done
	}
}

// Loaded returns the names of the files that were loaded without an error, sorted.
func (m *Modules) Loaded() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for file, a := range m.files {
		select {
		case <-a.done:
			if a.err == nil {
				names = append(names, modalias.Name(file))
			}
		default:
		}
	}
	slices.Sort(names)
	return names
}
