package api

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Rates. They are those of one node.
const (
	writeRate  = 500 // changes per second of one token, user or address, in the long run
	writeBurst = 2500
	// failEvery is how often an address may fail to authenticate in the long run.
	failEvery = 3 * time.Second
	failBurst = 20
	// refusedEvery is how often a refusal is logged in the long run.
	refusedEvery = time.Second
	refusedBurst = 20
	// maxPrincipals bounds how many are remembered, twice.
	maxPrincipals = 4096
)

// pacer allows everyone a burst, and then one thing each interval: a token bucket, of which only the instant is kept at
// which it would be full again. Who is idle for long is forgotten when there are many.
type pacer struct {
	every time.Duration
	burst int

	mu         sync.Mutex // guards the maps
	young, old map[string]time.Time
}

func newPacer(every time.Duration, burst int) *pacer {
	return &pacer{every: every, burst: burst, young: map[string]time.Time{}}
}

// take lets one thing pass, or says how long to wait for it.
func (p *pacer) take(who string) (wait time.Duration) { return p.look(who, true) }

// wait says how long the next thing would have to wait.
func (p *pacer) wait(who string) time.Duration { return p.look(who, false) }

func (p *pacer) look(who string, take bool) time.Duration {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	full, known := p.young[who]
	if !known {
		full = p.old[who]
	}
	if full.Before(now) {
		full = now
	}
	if wait := full.Sub(now) - time.Duration(p.burst-1)*p.every; wait > 0 {
		if take {
			p.note(who, full) // who goes on asking is not forgotten for it
		}
		return wait
	}
	if take {
		p.note(who, full.Add(p.every))
	}
	return 0
}

// note remembers; when there are too many, those that were not seen since the last time are forgotten. p.mu must be held.
func (p *pacer) note(who string, full time.Time) {
	if _, known := p.young[who]; !known && len(p.young) >= maxPrincipals {
		p.young, p.old = make(map[string]time.Time, maxPrincipals), p.young
	}
	p.young[who] = full
}

// neighbourhood gives what of an address failures are counted by: whoever has one address of an IPv6 network has them all.
func neighbourhood(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if addr = addr.Unmap().WithZone(""); addr.Is6() {
		if network, err := addr.Prefix(64); err == nil {
			return network.String()
		}
	}
	return addr.String()
}

// refusals logs what was refused, at a bounded rate.
type refusals struct {
	log  *slog.Logger
	pace *pacer

	mu      sync.Mutex // guards dropped
	dropped int        // not logged since the last one that was
}

func (r *refusals) note(ctx context.Context, c *call, err error) {
	r.mu.Lock()
	dropped := r.dropped
	if r.pace.take("") > 0 {
		r.dropped++
		r.mu.Unlock()
		return
	}
	r.dropped = 0
	r.mu.Unlock()
	r.log.WarnContext(ctx, "request refused", "request", c.by.Request, "method", c.r.Method, "path", c.r.URL.EscapedPath(),
		"actor", c.by.Name, "from", c.by.Origin, "err", err, "not_logged", dropped)
}
