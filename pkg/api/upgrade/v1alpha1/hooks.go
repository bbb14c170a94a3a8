package v1alpha1

import "time"

// HookTimeout is that of a hook which names none.
const HookTimeout = 5 * time.Minute

// Limit is how long a hook may take.
func (h Hook) Limit() time.Duration {
	if h.Timeout != nil {
		return h.Timeout.Duration
	}
	return HookTimeout
}

// Limits are how long the hooks before and after an upgrade may take in all.
func (h *Hooks) Limits() (pre, post time.Duration) {
	if h == nil {
		return 0, 0
	}
	for _, hook := range h.Pre {
		pre += hook.Limit()
	}
	for _, hook := range h.Post {
		post += hook.Limit()
	}
	return pre, post
}
