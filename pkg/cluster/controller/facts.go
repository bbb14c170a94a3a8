package controller

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kedgeos/kedge/pkg/api/upgrade/v1alpha1"
	"github.com/kedgeos/kedge/pkg/cluster/resolve"
	"github.com/kedgeos/kedge/pkg/cluster/upgrade"
)

// Times of looking things up.
const (
	firstRetry   = 10 * time.Second // after a look-up that failed, doubled up to
	lastRetry    = 10 * time.Minute
	lookTimeout  = 2 * time.Minute
	channelEvery = time.Hour // unless the plan says so
	restChecks   = 4         // times less often are checks of complete plans looked at
	checksAtOnce = 4         // of one plan
)

// facts are what plans mean and how their checks stand, looked up beside the
// loop.
type facts struct {
	resolve func(context.Context, *v1alpha1.Plan) (v1alpha1.Target, error)
	check   func(context.Context, v1alpha1.Check) string
	kick    func()           // there is something new
	now     func() time.Time // as Decide sees it
	every   time.Duration    // between two looks at checks

	lock  sync.Mutex
	plans map[types.UID]*known
	wake  chan struct{}
}

// known is what is known of one plan. Times here are of this process.
type known struct {
	plan *v1alpha1.Plan

	resolution *upgrade.Resolution
	lookAt     time.Time // the next look; zero for none
	wait       time.Duration
	looking    bool

	results  []upgrade.CheckResult
	checked  time.Time // when the look began that found these; zero for none
	checkAt  time.Time
	checking bool
}

func newFacts() *facts {
	return &facts{plans: map[types.UID]*known{}, wake: make(chan struct{}, 1)}
}

func checksOf(p *v1alpha1.Plan) []v1alpha1.Check {
	if p.Spec.Health == nil {
		return nil
	}
	return p.Spec.Health.Checks
}

// names is the part of a plan that is looked up.
func names(p *v1alpha1.Plan) [3]any { return [3]any{p.Spec.OS, p.Spec.Kubernetes, p.Spec.Channel} }

// fill puts what is known of the plans into the input. It is false if checks of
// one of them have never been looked at: a decision has to wait then.
func (f *facts) fill(in *upgrade.Input) bool {
	f.lock.Lock()
	defer f.lock.Unlock()
	in.Resolutions, in.Checks = map[string]upgrade.Resolution{}, map[string][]upgrade.CheckResult{}
	whole, there := true, map[types.UID]bool{}
	for _, p := range in.Plans {
		there[p.UID] = true
		k := f.plans[p.UID]
		if k == nil {
			k = &known{plan: p}
			k.renew()
			f.plans[p.UID] = k
		}
		old := k.plan
		k.plan = p
		if !reflect.DeepEqual(names(old), names(p)) {
			k.renew()
		}
		if !reflect.DeepEqual(checksOf(old), checksOf(p)) {
			k.checked, k.checkAt = time.Time{}, time.Time{}
		}
		if k.resolution != nil {
			in.Resolutions[p.Name] = *k.resolution
		}
		if len(checksOf(p)) == 0 {
			continue
		}
		whole = whole && !k.checked.IsZero()
		in.Checks[p.Name] = slices.Clone(k.results)
	}
	for uid := range f.plans {
		if !there[uid] {
			delete(f.plans, uid)
		}
	}
	f.poke()
	return whole
}

// renew forgets what the plan was found to mean.
func (k *known) renew() {
	k.resolution, k.wait, k.lookAt = nil, 0, time.Time{}
	if resolve.Needed(k.plan) && !resolve.Pinned(k.plan) {
		k.lookAt = time.Now()
	}
}

// fresh tells whether the checks of a plan were looked at after a time. If not,
// they will be now.
func (f *facts) fresh(uid types.UID, since time.Time) bool {
	f.lock.Lock()
	defer f.lock.Unlock()
	k := f.plans[uid]
	if k == nil || len(checksOf(k.plan)) == 0 || k.checked.After(since) {
		return true
	}
	k.checkAt = time.Time{}
	f.poke()
	return false
}

func (f *facts) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// run looks things up until the end of ctx.
func (f *facts) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		next := f.begin(ctx, &all)
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-f.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// begin begins all that is due, and returns how long nothing else is.
func (f *facts) begin(ctx context.Context, all *sync.WaitGroup) time.Duration {
	f.lock.Lock()
	defer f.lock.Unlock()
	now, next := time.Now(), time.Minute
	due := func(at time.Time) bool {
		if at.After(now) {
			next = min(next, at.Sub(now))
			return false
		}
		return true
	}
	for _, k := range f.plans {
		if !k.looking && !k.lookAt.IsZero() && due(k.lookAt) {
			k.looking = true
			p := k.plan
			all.Go(func() { f.look(ctx, k, p) })
		}
		if len(checksOf(k.plan)) > 0 && !k.checking && due(k.checkAt) {
			k.checking = true
			p := k.plan
			all.Go(func() { f.checkAll(ctx, k, p) })
		}
	}
	return next
}

// look finds what a plan means.
func (f *facts) look(ctx context.Context, k *known, p *v1alpha1.Plan) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	target, err := f.resolve(ctx, p)
	f.lock.Lock()
	defer f.lock.Unlock()
	k.looking = false
	defer f.poke()
	if !reflect.DeepEqual(names(k.plan), names(p)) {
		return // it means something else by now
	}
	if err != nil {
		k.wait = min(max(2*k.wait, firstRetry), lastRetry)
		k.resolution, k.lookAt = &upgrade.Resolution{Err: err.Error()}, time.Now().Add(k.wait)
		f.kick()
		return
	}
	k.resolution, k.wait, k.lookAt = &upgrade.Resolution{Target: target}, 0, time.Time{}
	if c := p.Spec.Channel; c != nil {
		every := channelEvery
		if c.Interval != nil {
			every = max(c.Interval.Duration, time.Minute)
		}
		k.lookAt = time.Now().Add(every)
	}
	f.kick()
}

// checkAll looks at the checks of a plan.
func (f *facts) checkAll(ctx context.Context, k *known, p *v1alpha1.Plan) {
	began := time.Now()
	checks := checksOf(p)
	results := make([]upgrade.CheckResult, len(checks))
	var some sync.WaitGroup
	places := make(chan struct{}, checksAtOnce)
	for i, c := range checks {
		places <- struct{}{}
		some.Go(func() {
			results[i] = upgrade.CheckResult{Name: c.Name, Message: f.check(ctx, c)}
			<-places
		})
	}
	some.Wait()
	f.lock.Lock()
	defer f.lock.Unlock()
	k.checking = false
	defer f.poke()
	if ctx.Err() != nil || !reflect.DeepEqual(checksOf(k.plan), checksOf(p)) {
		return
	}
	for i := range results {
		r := &results[i]
		if r.Message == "" {
			continue
		}
		r.Since = f.now()
		for _, old := range k.results {
			if old.Name == r.Name && old.Message != "" {
				r.Since = old.Since
			}
		}
	}
	changed := k.checked.IsZero() || !reflect.DeepEqual(k.results, results)
	k.results, k.checked, k.checkAt = results, began, began.Add(f.every)
	if k.plan.Status.Phase == v1alpha1.PlanComplete {
		k.checkAt = began.Add(restChecks * f.every)
	}
	if changed {
		f.kick()
	}
}
