package fsm

import (
	"cmp"
	"slices"
	"unique"

	"github.com/syscollective/saltpeter"
	"github.com/tidwall/btree"
)

// pageSize is how many targets one copy-on-write page holds: copying 10,000 targets for one change costs 0.6 ms, a page
// of 256 costs 10 µs (BenchmarkApplyReport).
const pageSize = 256

// state is the whole record. Its maps are B-trees that copy in O(1); what they point to carries the generation in which
// it was made, and is copied before a change when a view of that generation exists.
type state struct {
	gen uint64 // rises with every view

	index     uint64
	clusterID string
	epoch     uint64

	revision    *saltpeter.Revision // immutable
	settings    []byte              // as they were committed; the revision has them decoded
	configDraft *configDraft        // parts of a revision that is not complete
	digests     []string            // of the files of the last revisions, newest last; replaced as a whole by a change
	defs        *btree.Map[string, *definition]
	jobs        *btree.Map[string, *job]

	lastRun    uint64
	lastLaunch saltpeter.LaunchID
	ends       uint64 // how many runs have finished: gives finished runs their order
	runs       *btree.Map[uint64, *run]
	runIDs     *btree.Map[string, uint64]
	unfinished *btree.Map[uint64, struct{}]
	backs      *btree.Map[uint64, struct{}] // runs with a machine that came back
	finished   *btree.Map[uint64, uint64]   // end order → run
	overfull   *btree.Map[string, struct{}] // jobs with more than history_runs
	gone       *btree.Map[string, struct{}] // jobs that are not in force and have no runs
	launches   *btree.Map[int64, launchRef]
	keys       *btree.Map[string, startKey]
	targets    int    // in all runs
	empty      int    // finished runs without targets: history counts each as one
	output     uint64 // bytes stored for them; the store's own figure is another on a node that lacks segments

	retained   lastRetain
	retainNext string // job with which the next look at overfull jobs begins
	early      uint64 // runs that went before their time because the totals are hard

	restoring  *restoring // parts of a backup that is not in force; replaced as a whole by a change
	restored   lastRestore
	outputKeys uint64 // given to runs whose output came with a backup
	losses     uint64 // rounds of LoseSegments

	windows windows
	nodes   *btree.Map[string, NodeRecord]
	used    Code                                // highest command that was ever applied, 0 = none above BaseCode
	tokens  *btree.Map[string, saltpeter.Token] // by hash

	launchKeys []saltpeter.LaunchKey // in order; replaced as a whole by a change

	feedNext uint64 // number of the next event; the feed's manifest knows the first that is kept
}

type definition struct {
	digest  saltpeter.Digest
	job     *saltpeter.Job
	encoded []byte
	refs    int // jobs in force and retained runs that name it
}

// job is what the record knows of a name, in force or not.
type job struct {
	gen      uint64
	name     string
	group    string
	inForce  bool
	digest   saltpeter.Digest
	revision uint64 // that brought the definition
	mark     int64
	maxTick  int64 // highest tick that has a run; above mark only after marks were pulled back
	active   int   // unfinished runs, and finished ones with a machine that came back
	runs     []uint64
	runsGen  uint64 // in which runs was copied: its elements may be changed in this generation
	lastOK   uint64
	lastFail uint64
	lastEnd  uint64
	skips    []saltpeter.Skip
	// inRow says that the newest skip may be extended: no run was claimed since.
	inRow   bool
	skipped uint64
}

// run is a run with its targets.
type run struct {
	gen uint64
	saltpeter.Run
	endOrder  uint64
	outputKey uint64 // the run number under which the output lies in the store; 0 = Num
	batchSize int
	taken     int  // targets that were to be launched when the list was complete
	allTaken  bool // nothing that matched was left out
	pages     []*page
	// byMachine is nil for small and for finished runs; all generations share it: it is written once, with the targets.
	byMachine map[unique.Handle[string]]uint32
	cursor    uint32 // no target before it is waiting
	draft     *targetDraft
	presumed  int // targets with a presumed outcome
}

type page struct {
	gen     uint64
	targets []target
}

// target is a machine of a run, 112 bytes: a million of them is what a node holds (BenchmarkMillionTargets).
type target struct {
	machine unique.Handle[string]
	sight   unique.Handle[sight]
	nonce   *saltpeter.Nonce // of the winner; forgotten with its final word
	text    string
	granted int64 // ms
	started int64
	ended   int64
	nextSeq uint64
	stored  uint64
	leftOut uint64
	code    int32
	batch   int32 // index in Run.Batches, -1 while waiting
	state   saltpeter.TargetState
	signal  uint8
	flags   targetFlags
}

// sight is what a winner said of its host; equal ones share memory.
type sight struct{ bootID, host, version string }

type targetFlags uint8

const (
	flagPresumed targetFlags = 1 << iota
	flagReplaced
	flagBack
	flagTwoHosts
	flagKilling
	flagDone // the winner's final word is in the record
	flagSoft // its soft timeout was told
)

func (t *target) has(f targetFlags) bool { return t.flags&f != 0 }

type launchRef struct {
	run   uint64
	batch int
}

type startKey struct {
	run    uint64
	runID  string
	sum    saltpeter.Digest // of the request
	millis int64
}

// lastRetain is the newest numbered round of retention and what it answered.
type lastRetain struct {
	round  uint64
	answer Retained
}

// restoring is a backup on its way. Its chunks are not changed any more.
type restoring struct {
	id     string
	next   int
	record [][]byte
	keys   *btree.Map[uint64, uint64] // run of the backup → its output's key
}

// lastRestore is the newest restore and what it answered.
type lastRestore struct {
	id     string
	answer Restored
}

type configDraft struct {
	id   string
	next int
	jobs []saltpeter.JobDigest
}

type targetDraft struct {
	attempt  string
	next     int
	machines []string
	down     []bool
}

func newState() *state {
	return &state{
		gen:        1,
		revision:   &saltpeter.Revision{Settings: saltpeter.DefaultSettings()},
		defs:       new(btree.Map[string, *definition]),
		jobs:       new(btree.Map[string, *job]),
		runs:       new(btree.Map[uint64, *run]),
		runIDs:     new(btree.Map[string, uint64]),
		unfinished: new(btree.Map[uint64, struct{}]),
		backs:      new(btree.Map[uint64, struct{}]),
		finished:   new(btree.Map[uint64, uint64]),
		overfull:   new(btree.Map[string, struct{}]),
		gone:       new(btree.Map[string, struct{}]),
		launches:   new(btree.Map[int64, launchRef]),
		keys:       new(btree.Map[string, startKey]),
		nodes:      new(btree.Map[string, NodeRecord]),
		tokens:     new(btree.Map[string, saltpeter.Token]),
		feedNext:   1,
	}
}

// freeze gives an immutable copy in O(1) and begins a new generation.
func (s *state) freeze() *state {
	c := *s
	c.defs, c.jobs, c.runs, c.runIDs = s.defs.Copy(), s.jobs.Copy(), s.runs.Copy(), s.runIDs.Copy()
	c.unfinished, c.finished, c.overfull = s.unfinished.Copy(), s.finished.Copy(), s.overfull.Copy()
	c.backs = s.backs.Copy()
	c.gone, c.launches, c.keys, c.nodes = s.gone.Copy(), s.launches.Copy(), s.keys.Copy(), s.nodes.Copy()
	c.tokens = s.tokens.Copy()
	if s.restoring != nil {
		d := *s.restoring
		d.keys = s.restoring.keys.Copy()
		c.restoring = &d
	}
	s.gen++
	return &c
}

// mutJob gives the job's record for change, nil if there is none.
func (s *state) mutJob(name string) *job {
	j, ok := s.jobs.Get(name)
	if !ok {
		return nil
	}
	if j.gen != s.gen {
		c := *j
		c.gen = s.gen
		// runs and skips stay shared: appending and cutting are safe (a view has its own length), changing elements is not.
		j = &c
		s.jobs.Set(name, j)
	}
	return j
}

// mutRun gives the run for change, nil if there is none.
func (s *state) mutRun(num uint64) *run {
	r, ok := s.runs.Get(num)
	if !ok {
		return nil
	}
	if r.gen != s.gen {
		c := *r
		c.gen = s.gen
		c.pages = slices.Clone(r.pages)
		r = &c
		s.runs.Set(num, r)
	}
	return r
}

// at gives target i for reading.
func (r *run) at(i uint32) *target { return &r.pages[i/pageSize].targets[i%pageSize] }

// mutAt gives target i for change; r must come from mutRun.
func (r *run) mutAt(i uint32) *target {
	p := r.pages[i/pageSize]
	if p.gen != r.gen {
		p = &page{gen: r.gen, targets: slices.Clone(p.targets)}
		r.pages[i/pageSize] = p
	}
	return &p.targets[i%pageSize]
}

// storedAs gives the run number under which the output lies in the store.
func (r *run) storedAs() uint64 { return cmp.Or(r.outputKey, r.Num) }

// size gives the number of targets.
func (r *run) size() uint32 {
	if len(r.pages) == 0 {
		return 0
	}
	return uint32((len(r.pages)-1)*pageSize + len(r.pages[len(r.pages)-1].targets))
}

// setTargets gives a run its targets, in pages that have no room to spare.
func (r *run) setTargets(list []target) {
	for part := range slices.Chunk(list, pageSize) {
		r.addPage(slices.Clone(part))
	}
	r.indexMachines()
}

func (r *run) addPage(targets []target) {
	r.pages = append(r.pages, &page{gen: r.gen, targets: targets})
	for i := range targets {
		r.Counts[targets[i].state]++
	}
}

// indexedRun is the size from which machines are found by a map: below it a scan takes less than a microsecond, and
// thousands of runs on a hundred machines each would pay for a map each.
const indexedRun = pageSize

func (r *run) indexMachines() {
	if r.size() < indexedRun {
		return
	}
	r.byMachine = make(map[unique.Handle[string]]uint32, r.size())
	for i := range r.size() {
		r.byMachine[r.at(i).machine] = i
	}
}

// find gives the position of a machine.
func (r *run) find(machine string) (uint32, bool) {
	h := unique.Make(machine)
	if r.byMachine != nil {
		i, ok := r.byMachine[h]
		return i, ok
	}
	for i := range r.size() {
		if r.at(i).machine == h {
			return i, true
		}
	}
	return 0, false
}

// definition gives the definition that a run executes.
func (s *state) definition(d saltpeter.Digest) *definition {
	def, _ := s.defs.Get(string(d[:]))
	return def
}

// ref counts who needs a definition. One that nobody needs is forgotten when the next revision comes, not before: whoever
// makes that revision has seen it here and doesn't bring it again.
func (s *state) ref(d saltpeter.Digest, by int) {
	def := s.definition(d)
	if def == nil {
		return
	}
	c := *def
	c.refs += by
	s.defs.Set(string(d[:]), &c)
}
