package fsm

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"

	"github.com/syscollective/saltpeter"
	"pgregory.net/rapid"
)

// step makes a random step in a random world.
func (w *random) step() {
	switch n := w.intn(100, "step"); {
	case n < 8:
		w.passTime()
	case n < 24:
		w.claim()
	case n < 36:
		w.drive()
	case n < 50:
		w.ask()
	case n < 72:
		w.report()
	case n < 78:
		w.silence()
	case n < 81:
		w.kill()
	case n < 86:
		w.window()
	case n < 90:
		w.retain()
	case n < 92:
		w.config()
	case n < 95:
		w.rare()
	case n < 97:
		w.do(w.hostile())
	default:
		w.snapshots()
	}
}

func (w *random) passTime() {
	w.now += pick(w, "time", int64(1), 500, 1000, 5000, 60_000, 1800_000, 7200_000, -3000, -60_000)
	if w.chance(10, "term") {
		w.term++
	}
}

func (w *random) claim() {
	s := w.direct.m.state
	c := &ClaimRuns{}
	after := make(map[string]int64) // a plan names a job's ticks in order
	for range 1 + w.intn(3, "claims") {
		j, ok := s.jobs.Get(pick(w, "job", "a", "b", "c"))
		if !ok {
			continue
		}
		cl := saltpeter.Claim{Job: j.name, Digest: j.digest, Tick: w.now/1000 - int64(w.intn(4, "late")) + int64(btoi(w.chance(5, "early"))), Cause: "tick"}
		switch w.intn(10, "kind") {
		case 0:
			cl.Skip, cl.Last, cl.Count = pick(w, "reason", saltpeter.SkipMissed, saltpeter.SkipNoLauncher), cl.Tick+2, 2
		case 1:
			cl.Digest[0]++
		}
		if cl.Tick > after[j.name] {
			after[j.name] = max(cl.Tick, cl.Last)
			c.Claims = append(c.Claims, cl)
		}
	}
	if w.chance(15, "by hand") {
		w.do(&StartRun{Request: saltpeter.StartRequest{Job: pick(w, "job", "a", "b", "c", "x"), Key: pick(w, "key", "k1", "k2", "k3", ""),
			Note: pick(w, "note", "", "", "n")}})
		return
	}
	w.do(c)
}

// someRun gives a run's number, mostly of one that is unfinished.
func (w *random) someRun() uint64 {
	s := w.direct.m.state
	nums := s.unfinished.Keys()
	if len(nums) == 0 || w.chance(20, "any run") {
		nums = append(s.runs.Keys(), 999_999)
	}
	return pick(w, "run", nums...)
}

func (w *random) drive() {
	num := w.someRun()
	r, ok := w.direct.m.state.runs.Get(num)
	switch {
	case !ok || r.State == saltpeter.RunClaimed && w.chance(80, "targets"):
		set := &SetTargets{Run: num, Attempt: pick(w, "attempt", "1", "2"), Last: w.chance(70, "last"), Part: btoi(w.chance(30, "part"))}
		for i := range 1 + w.intn(5, "machines") {
			set.Machines = append(set.Machines, fmt.Sprint("m", (i+w.intn(3, "machine"))%5))
			if w.chance(10, "down") {
				set.Down = append(set.Down, i)
			}
		}
		w.do(set)
	case r.State == saltpeter.RunClaimed:
		w.do(&EndRun{Run: num, State: pick(w, "end", saltpeter.RunLaunchFailed, saltpeter.RunNoTargets, saltpeter.RunOK), Text: pick(w, "text", "", "why")})
	default:
		res := w.do(&LaunchBatch{Run: num, Batch: max(0, len(r.Batches)-btoi(w.chance(20, "again")))})
		if l, ok := res.(BatchLaunched); ok && l.Launch != nil {
			w.launches = append(w.launches, l.Launch)
		}
	}
}

func (w *random) nonce() saltpeter.Nonce {
	return saltpeter.Nonce{pick(w, "nonce", byte(1), 1, 1, 1, 2)}
}

func (w *random) ask() {
	if len(w.launches) == 0 {
		return
	}
	// Mostly the newest ones: older runs are done or gone.
	l := w.launches[max(0, len(w.launches)-1-w.intn(4, "launch"))]
	i := w.intn(len(l.Targets), "target")
	sight := saltpeter.LaunchSight{Launch: l.ID, Machine: l.Machines[i], BootID: pick(w, "boot", "b1", "b1", "b2"), Remark: pick(w, "remark", "", "may still run")}
	if w.chance(5, "wrong machine") {
		sight.Machine = "other"
	}
	if w.chance(15, "locked") {
		w.do(&RefuseLock{Refusal: saltpeter.LockRefusal{Sight: sight, Ref: refOf(l, i), Text: "held"}})
		return
	}
	w.do(&StartTarget{Ask: saltpeter.StartAsk{Sight: sight, Ref: refOf(l, i), Nonce: w.nonce(), Ask: 1}})
}

// someTarget gives a target, mostly one with a winner whose word is to come.
func (w *random) someTarget() saltpeter.TargetRef {
	var won, all []saltpeter.TargetRef
	for _, r := range w.direct.m.state.runs.Values() {
		for i := range r.size() {
			ref := saltpeter.TargetRef{Run: r.Num, Target: i}
			all = append(all, ref)
			if r.at(i).nonce != nil {
				won = append(won, ref)
			}
		}
	}
	if len(won) == 0 || w.chance(10, "any target") {
		won = append(all, saltpeter.TargetRef{Run: 1, Target: 77})
	}
	return pick(w, "target", won...)
}

func (w *random) report() {
	c := &Report{}
	for range 1 + w.intn(2, "reports") {
		ref := w.someTarget()
		rep := saltpeter.Report{Ref: ref, Nonce: w.nonce()}
		next := uint64(1)
		if t, ok := w.direct.m.View().Target(ref); ok {
			next = t.NextSeq
			if t.Won && w.chance(90, "winner") {
				rep.Nonce = t.Nonce
			}
		}
		if len(c.Reports) > 0 && c.Reports[0].Ref == ref {
			rep.Nonce = c.Reports[0].Nonce
		}
		seq := next - min(next-1, uint64(w.intn(2, "repeated"))) + uint64(btoi(w.chance(10, "gap")))
		for range 1 + w.intn(4, "words") {
			word := w.word(&seq)
			rep.Words = append(rep.Words, word)
		}
		c.Reports = append(c.Reports, rep)
	}
	before := w.direct.m.View()
	res, ok := w.do(c).(Reported)
	if !ok {
		return
	}
	if len(c.Reports) == 2 && c.Reports[0].Ref == c.Reports[1].Ref {
		c.Reports[0].Words = slices.Concat(c.Reports[0].Words, c.Reports[1].Words)
		res.Answers[0] = res.Answers[1]
		c.Reports = c.Reports[:1]
	}
	for i, rep := range c.Reports {
		w.note(before, rep, res.Answers[i])
	}
}

// note remembers the output that an answer says was taken.
func (w *random) note(before *View, rep saltpeter.Report, ans saltpeter.ReportAnswer) {
	t, ok := before.Target(rep.Ref)
	if !ok || ans.Refused != "" {
		return
	}
	r, _ := before.Run(rep.Ref.Run)
	def, _ := before.Definition(r.Digest)
	stored := t.Stored
	for next := t.NextSeq; next < ans.Next; {
		i := slices.IndexFunc(rep.Words, func(word saltpeter.Word) bool { return word.Seq == next })
		if i < 0 {
			w.t.Fatalf("%v: answer %+v names a number that was not sent", rep.Ref, ans)
		}
		word := rep.Words[i]
		next++
		if word.Kind == saltpeter.WordSkip {
			next += max(word.Covers, 1) - 1
		}
		if word.Kind == saltpeter.WordOutput && stored+uint64(len(word.Data)) <= 3*uint64(def.OutputLimit) {
			stored += uint64(len(word.Data))
			w.taken[rep.Ref] = append(w.taken[rep.Ref], word.Data...)
		}
	}
	if after, ok := w.direct.m.View().Target(rep.Ref); ok && after.Stored != stored {
		w.t.Fatalf("%v: %d bytes are stored, want %d", rep.Ref, after.Stored, stored)
	}
}

func (w *random) word(seq *uint64) saltpeter.Word {
	word := saltpeter.Word{Kind: pick(w, "word", saltpeter.WordStarted, saltpeter.WordOutput, saltpeter.WordOutput, saltpeter.WordOutput,
		saltpeter.WordSkip, saltpeter.WordResult, saltpeter.WordDeclined, saltpeter.WordRemark, saltpeter.WordSoftTimeout, 99)}
	switch word.Kind {
	case saltpeter.WordOutput:
		word.Data = rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(w.t, "data")
	case saltpeter.WordSkip:
		word.Covers, word.Skipped = uint64(w.intn(4, "covers")), 7
	case saltpeter.WordResult:
		word.Code, word.Cause = pick(w, "code", 0, 0, 3), pick(w, "cause", saltpeter.EndExit, saltpeter.EndExit, saltpeter.EndTimeout, saltpeter.EndKill)
	case saltpeter.WordDeclined:
		word.Cause = pick(w, "cause", saltpeter.EndExit, saltpeter.EndKill)
	default:
		word.Text = pick(w, "text", "", "t")
		return word
	}
	if word.Kind != saltpeter.WordDeclined {
		word.Seq = *seq
		*seq += max(word.Covers, 1)
	}
	return word
}

func (w *random) silence() {
	num := w.someRun()
	if backs := w.direct.m.state.backs.Keys(); len(backs) > 0 && w.chance(50, "back") {
		num = pick(w, "run", backs...)
	}
	r, ok := w.direct.m.state.runs.Get(num)
	c := &EndTargets{Run: num}
	for i := range uint32(5) {
		if ok && i < r.size() && w.chance(60, "silent") {
			from := r.at(i).state
			to := saltpeter.Lost
			if from.Final() {
				to = from // of one that is back
			} else if from < saltpeter.Granted {
				to = pick(w, "silent", saltpeter.NotStarted, saltpeter.Unreachable)
			}
			if w.chance(10, "wrong") {
				to = pick(w, "any", saltpeter.TargetStates()...)
			}
			c.Ends = append(c.Ends, saltpeter.TargetEnd{Target: i, From: from, State: to, Text: "silent"})
		}
	}
	w.do(c)
}

func (w *random) kill() {
	c := &Kill{Run: w.someRun()}
	if w.chance(50, "some") {
		c.Machines = []string{fmt.Sprint("m", w.intn(6, "machine"))}
	}
	w.do(c)
}

func (w *random) window() {
	scope := pick(w, "scope", saltpeter.ScopeAll, saltpeter.ScopeGroup, saltpeter.ScopeJob, saltpeter.ScopeMachine, saltpeter.ScopeMachine)
	name := map[saltpeter.Scope]string{saltpeter.ScopeGroup: "g", saltpeter.ScopeJob: "a", saltpeter.ScopeMachine: "m1"}[scope]
	pause := scope == saltpeter.ScopeJob && w.chance(50, "pause")
	if w.chance(60, "lift") {
		w.do(&LiftWindow{Scope: scope, Name: name, Pause: pause})
		return
	}
	win := saltpeter.Window{Scope: scope, Name: name, Pause: pause, Reason: pick(w, "reason", "", "SAN")}
	if w.chance(50, "until") {
		win.UntilMillis = w.now + int64(w.intn(20_000, "length")) - 1000
	}
	w.do(&SetWindow{Window: win})
}

func (w *random) retain() {
	before := w.direct.m.View()
	next := before.NextRetain()
	res, _ := w.do(&Retain{Round: next + uint64(btoi(w.chance(5, "overtaken")))}).(Retained)
	set := before.Settings()
	var kept saltpeter.Run
	after, early := w.direct.m.View(), 0
	before.Runs(0, func(r *saltpeter.Run) bool {
		if _, ok := after.Run(r.Num); ok {
			kept = *r
			return true
		}
		if !r.State.Final() || r.Backs > 0 {
			w.t.Fatalf("retention took run %+v, which lives", r)
		}
		early += btoi(w.now-r.EndedMillis < keepAlways)
		return true
	})
	if early > res.Early {
		w.t.Fatalf("%d runs younger than an hour went, %d were counted", early, res.Early)
	}
	if early > 0 && before.TargetCount()+before.s.empty <= set.HistoryTargets && int64(before.s.output) <= set.OutputTotal {
		w.t.Fatalf("%d runs younger than an hour went, and no total was exceeded; %+v stayed", early, kept)
	}
}

func (w *random) rare() {
	switch w.intn(11, "rare") {
	case 9:
		w.save()
	case 10:
		w.restore()
	case 0:
		w.do(&PullMarks{To: w.now/1000 - int64(w.intn(100, "back"))})
	case 1:
		w.do(&SetNode{Node: NodeRecord{ID: pick(w, "node", "n1", "n2"), Name: "sp", Version: pick(w, "version", "1", "2"), Commands: int(NewestCode)}})
	case 2:
		w.do(&InitCluster{ClusterID: pick(w, "cluster", "c1", "c1", "c2", "")})
	case 3:
		if w.chance(30, "epoch") {
			w.do(&BeginEpoch{Epoch: w.direct.m.state.epoch + uint64(w.intn(2, "epoch")), Reason: "restored"})
		}
	case 4:
		t := saltpeter.Token{Name: pick(w, "name", "ci", "bot", ""), Role: saltpeter.Role(w.intn(5, "role")), Hash: saltpeter.Digest{byte(w.intn(4, "hash"))}}
		if w.chance(50, "expires") {
			t.ExpiresMillis = w.now + int64(w.intn(5000, "expires")) - 100
		}
		w.do(&PutToken{Token: t})
	case 5:
		w.do(&RevokeToken{Hash: saltpeter.Digest{byte(w.intn(5, "hash"))}})
	case 7:
		w.do(&ForgetNode{ID: pick(w, "id", "n1", "n2", "")})
		w.do(&LoseSegments{Round: w.direct.m.state.losses + uint64(w.intn(3, "loss")), Feed: w.chance(50, "feed"), Segments: []LostSegment{{No: 900, Last: 900}}})
	case 6:
		w.do(&SetLaunchKey{Key: pick(w, "key", "k1", "k2", "")})
	default:
		if from, to, ok := w.direct.m.Output().HalfDead(); ok {
			w.do(&CompactOutput{From: from, To: to})
		} else {
			w.do(&CompactOutput{From: uint64(w.intn(3, "from")), To: uint64(w.intn(3, "to"))})
		}
	}
}

func (w *random) save() {
	w.saved, w.savedTaken = saveParts(w.t, w.direct.m, true), maps.Clone(w.taken)
}

// restore puts the saved record in force, or gives up halfway.
func (w *random) restore() {
	if w.saved == nil {
		w.save()
	}
	w.restores++
	id := fmt.Sprint("restore ", w.restores)
	for _, p := range w.saved {
		if p.ID = id; w.chance(5, "give up") {
			return
		}
		w.do(&p)
	}
	// What the restored record takes back is no change of its own; who was granted what, and which tick was claimed, stays true.
	w.hist.targets, w.hist.ends = make(map[saltpeter.TargetRef]target), make(map[uint64]int64)
	if got, ok := w.do(&Restore{ID: id, Parts: len(w.saved), Foreign: true}).(Restored); ok {
		if w.taken = maps.Clone(w.savedTaken); got.LeftOut != 0 || w.direct.m.state.unfinished.Len() != 0 {
			w.t.Fatalf("%+v, %d unfinished", got, w.direct.m.state.unfinished.Len())
		}
	}
}

// hostile gives a command whose every field is drawn from what hurts.
func (w *random) hostile() Command {
	c := newCommand[Code(1+w.intn(int(NewestCode), "code"))]()
	switch c.Code() {
	case CodeApplyConfig, CodeBeginEpoch: // these would end the world: TestHostileCommands has them
		return &Retain{Round: math.MaxUint64}
	case CodeClaimRuns:
		c = &ClaimRuns{Claims: []saltpeter.Claim{{Job: "a", Tick: math.MaxInt64, Last: math.MinInt64, Count: math.MaxUint64}}}
	case CodePullMarks, CodeStartRun, CodeReport, CodePutDefinitions, CodeCompactOutput:
		return c
	}
	w.fill(reflect.ValueOf(c).Elem(), 0)
	return c
}

func (w *random) fill(v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "_" {
				w.fill(v.Field(i), depth)
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(pick(w, "bytes", "", "null", "{}", "\xff")))
			return
		}
		for range w.intn(3, "elements") {
			e := reflect.New(v.Type().Elem()).Elem()
			w.fill(e, depth+1)
			v.Set(reflect.Append(v, e))
		}
	case reflect.Array:
		v.Index(0).SetUint(uint64(w.intn(3, "array")))
	case reflect.String:
		v.SetString(pick(w, "string", "", "a", "m1", "1", "\xff"))
	case reflect.Bool:
		v.SetBool(w.chance(50, "bool"))
	case reflect.Int, reflect.Int64:
		v.SetInt(pick(w, "int", int64(0), 1, 2, -1, math.MaxInt64, math.MinInt64))
	case reflect.Uint64, reflect.Uint32:
		n := pick(w, "uint", uint64(0), 1, 2, 3, math.MaxUint64, 1<<32)
		if v.Kind() == reflect.Uint32 {
			n = uint64(uint32(n))
		}
		v.SetUint(n)
	case reflect.Uint8:
		v.SetUint(uint64(w.intn(13, "uint8")))
	default:
		w.t.Fatalf("no hostile value for %s", v.Type())
	}
}
