package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/syscollective/saltpeter/cluster"
)

// plan is all that a seed decides beforehand.
type plan struct {
	seed     uint64
	nodes    int
	tls      bool
	machines []string
	timings  cluster.Timings
	delay    time.Duration // of a path, at most
	disturb  time.Duration // between two steps of a process, at most
	offset   time.Duration // of a wall clock, at most, both ways
	jumps    bool          // wall clocks may jump
	wrong    time.Duration // how far the first node's wall clock is off all the time
	salt     saltPlan
	jobs     []job
	settings []string      // lines of saltpeter_config
	silence  time.Duration // lost_after and start_window
	events   []event
	length   time.Duration // of the part with faults
}

// saltPlan gives the probabilities of what Salt does wrong.
type saltPlan struct {
	delay, lateBy                                       time.Duration
	resolveErr, publishErr, doubtful, lose, late, twice float64
}

// job is a job as the test knows it: due at the seconds of each minute that it lists.
type job struct {
	name    string
	seconds string // "*/5" or "3,17,44"
	script  script
	extra   []string // lines of YAML
}

// overlaps reports whether runs of the job may overlap.
func (j job) overlaps() bool {
	return slices.ContainsFunc(j.extra, func(line string) bool { return strings.HasPrefix(line, "allow_overlap") })
}

func (j job) yaml(b *strings.Builder) {
	fmt.Fprintf(b, "%s:\n  schedule: '%s * * * * *'\n  command: '%s'\n", j.name, j.seconds, j.script)
	for _, line := range j.extra {
		fmt.Fprintf(b, "  %s\n", line)
	}
}

// event is one thing that happens at a time.
type event struct {
	at   time.Duration
	kind string
	x, y uint64        // choices
	dur  time.Duration // how long, where it lasts
}

// kinds are what may happen, with weights; those of clusters need other nodes.
var kinds = []struct {
	name          string
	weight        int
	min, max      time.Duration
	cluster, jump bool
}{
	{"isolate-leader", 6, time.Second, 25 * time.Second, true, false},
	{"isolate-node", 3, time.Second, 25 * time.Second, true, false},
	{"cut-one-way", 4, time.Second, 15 * time.Second, true, false},
	{"transfer", 3, 0, 0, true, false},
	{"pause-leader", 5, time.Second, 9 * time.Second, false, false},
	{"pause-node", 2, time.Second, 9 * time.Second, false, false},
	{"pause-long", 1, 12 * time.Second, 90 * time.Second, false, false},
	{"kill-leader", 4, 500 * time.Millisecond, 15 * time.Second, false, false},
	{"kill-node", 3, 500 * time.Millisecond, 15 * time.Second, false, false},
	{"power-leader", 4, 500 * time.Millisecond, 15 * time.Second, false, false},
	{"power-node", 3, 500 * time.Millisecond, 15 * time.Second, false, false},
	{"power-all", 1, time.Second, 40 * time.Second, false, false},
	{"stop-node", 2, 500 * time.Millisecond, 10 * time.Second, false, false},
	{"disk-log", 2, 0, 0, false, false},
	{"disk-segments", 2, 0, 0, false, false},
	{"reset", 5, 0, 0, false, false},
	{"loss", 2, time.Second, 10 * time.Second, false, false},
	{"clock-jump", 6, time.Second, 50 * time.Second, false, true},
	{"wrapper-kill", 4, 0, 0, false, false},
	{"machine-pause", 3, time.Second, 28 * time.Second, false, false},
	{"machine-pause-long", 1, 60 * time.Second, 100 * time.Second, false, false},
	{"machine-cut", 3, 2 * time.Second, 90 * time.Second, false, false},
	{"machine-reboot", 2, time.Second, 20 * time.Second, false, false},
	{"start", 8, 0, 0, false, false},
	{"kill-run", 5, 0, 0, false, false},
	{"maintenance", 4, 2 * time.Second, 20 * time.Second, false, false},
	{"pause-job", 2, 2 * time.Second, 20 * time.Second, false, false},
	{"config", 5, 0, 0, false, false},
	{"config-lag", 4, 0, 0, true, false},
}

// newPlan draws everything from the seed.
func newPlan(seed uint64) *plan {
	r := rand.New(rand.NewPCG(seed, 1))
	p := &plan{seed: seed, nodes: 3, tls: r.IntN(10) == 0, delay: between(r, 0, 40*time.Millisecond), disturb: between(r, 0, 8*time.Millisecond)}
	if r.IntN(5) == 0 {
		p.nodes = 1
	}
	p.offset = []time.Duration{0, 0, 400 * time.Millisecond}[r.IntN(3)]
	if p.jumps = r.IntN(5) == 0; p.jumps && r.IntN(2) == 0 && p.nodes > 1 {
		p.wrong = between(r, time.Second, 90*time.Second) * time.Duration(1-2*r.IntN(2))
	}
	for i := range 2 + r.IntN(3) {
		p.machines = append(p.machines, fmt.Sprintf("m%d", i+1))
	}
	p.timings = cluster.Timings{
		Heartbeat: time.Second, RPC: 2 * time.Second,
		SnapshotLogs: uint64(20 + r.IntN(300)), SnapshotEvery: between(r, 2*time.Second, 20*time.Second), TrailingLogs: uint64(10 + r.IntN(200)),
	}
	p.drawSalt(r)
	for i := range 1 + r.IntN(4) {
		p.jobs = append(p.jobs, p.drawJob(r, fmt.Sprintf("job%d", i+1)))
	}
	p.drawSettings(r)
	p.length = between(r, 40*time.Second, 80*time.Second)
	p.drawEvents(r)
	return p
}

func between(r *rand.Rand, from, to time.Duration) time.Duration {
	if to <= from {
		return from
	}
	return from + time.Duration(r.Int64N(int64(to-from)))
}

func (p *plan) drawSalt(r *rand.Rand) {
	p.salt = saltPlan{delay: between(r, 0, 300*time.Millisecond), lateBy: between(r, time.Second, 50*time.Second)}
	for _, f := range []*float64{&p.salt.resolveErr, &p.salt.publishErr, &p.salt.doubtful, &p.salt.lose, &p.salt.late, &p.salt.twice} {
		if r.IntN(3) == 0 {
			*f = r.Float64() * 0.4
		}
	}
}

func (p *plan) drawSettings(r *rand.Rand) {
	p.silence = time.Minute
	if r.IntN(2) == 0 {
		p.silence = 30 * time.Second
		p.settings = append(p.settings, "lost_after: 30s", "start_window: 30s")
	}
	p.settings = append(p.settings, fmt.Sprintf("misfire_grace: %ds", []int{0, 10, 60}[r.IntN(3)]))
	if r.IntN(3) == 0 {
		p.settings = append(p.settings, "output_limit: 4096")
	}
}

func (p *plan) drawJob(r *rand.Rand, name string) job {
	j := job{name: name, seconds: drawSeconds(r)}
	j.script = script{
		dur: between(r, 0, []time.Duration{time.Second, 6 * time.Second, 20 * time.Second}[r.IntN(3)]).Round(time.Millisecond),
		out: []int{0, 100, 3000, 30000}[r.IntN(4)], code: []int{0, 0, 3}[r.IntN(3)], term: []string{"exit", "slow", "ignore"}[r.IntN(3)],
	}
	switch r.IntN(3) {
	case 0:
		j.extra = append(j.extra, "targets: "+p.machines[0])
	case 1:
		j.extra = append(j.extra, "targets: '"+strings.Join(p.machines[:2], ",")+"'", "target_type: list")
	default:
		j.extra = append(j.extra, "targets: 'm*'")
	}
	if r.IntN(3) == 0 {
		j.extra = append(j.extra, "allow_overlap: 'i know what i am doing!'")
	}
	switch r.IntN(5) {
	case 0:
		j.extra = append(j.extra, "number_of_targets: 1")
	case 1:
		j.extra = append(j.extra, "batch_size: 1")
	}
	j.extra = append(j.extra, fmt.Sprintf("timeout: %ds", []int{2, 5, 600}[r.IntN(3)]), fmt.Sprintf("kill_grace: %ds", 1+r.IntN(3)))
	return j
}

func drawSeconds(r *rand.Rand) string {
	if r.IntN(3) > 0 {
		return fmt.Sprintf("*/%d", []int{3, 5, 10, 15}[r.IntN(4)])
	}
	var some []string
	for s := range 60 {
		if r.IntN(8) == 0 {
			some = append(some, fmt.Sprint(s))
		}
	}
	if len(some) == 0 {
		some = []string{"7"}
	}
	return strings.Join(some, ",")
}

func (p *plan) drawEvents(r *rand.Rand) {
	total := 0
	allowed := func(i int) bool { return (!kinds[i].cluster || p.nodes > 1) && (!kinds[i].jump || p.jumps) }
	for i := range kinds {
		if allowed(i) {
			total += kinds[i].weight
		}
	}
	for range 4 + r.IntN(20) {
		n := r.IntN(total)
		for i := range kinds {
			if !allowed(i) {
				continue
			}
			if n -= kinds[i].weight; n < 0 {
				p.events = append(p.events, event{at: between(r, 3*time.Second, p.length), kind: kinds[i].name, x: r.Uint64(), y: r.Uint64(),
					dur: between(r, kinds[i].min, kinds[i].max)})
				break
			}
		}
	}
	slices.SortFunc(p.events, func(a, b event) int { return int(a.at - b.at) })
}
