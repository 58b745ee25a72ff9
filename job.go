package saltpeter

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxJobName is the longest name of a job, in bytes.
const MaxJobName = 128

// OverlapSentence is the one value of allow_overlap that allows it, inherited from the Python program.
const OverlapSentence = "i know what i am doing!"

// Schedule says when a job is due: the seven fields as the operator wrote them, the zone in which they are read
// and how day of month and day of week combine.
type Schedule struct {
	Sec      string `json:"sec"`
	Min      string `json:"min"`
	Hour     string `json:"hour"`
	Dom      string `json:"dom"`
	Mon      string `json:"mon"`
	Dow      string `json:"dow"`
	Year     string `json:"year"`
	Timezone string `json:"timezone,omitempty"`  // IANA name; empty is UTC
	MatchAny bool   `json:"match_any,omitempty"` // day_match: or
	Written  string `json:"written,omitempty"`   // the short form, where the job was written with it
}

// Batch is the size of a batch: a number of machines, or a percentage of those taken. The zero value means all at once.
type Batch struct {
	Size    int  `json:"size,omitempty"`
	Percent bool `json:"percent,omitempty"`
}

// Of gives the number of machines in one batch of a run on n machines: at least 1, n where there is no limit.
func (b Batch) Of(n int) int {
	size := b.Size
	if b.Percent {
		size = (n*b.Size + 99) / 100
	}
	if b.Size == 0 || size > n {
		return n
	}
	return max(size, 1)
}

// How a job's command reaches the machine.
const (
	StartClaim  = "claim"  // the wrapper asks for it with a start claim (default)
	StartDirect = "direct" // the command travels in the wrapper's environment, as the Python program did
)

// Job is the definition of a job, complete: defaults of the settings are filled in, so that a run needs nothing else.
// Its canonical encoding is JSON in the order of the fields; Digest is taken of that.
type Job struct {
	Name  string `json:"name"`
	Group string `json:"group"`

	Schedule Schedule `json:"schedule"`

	Command string            `json:"command"`
	Cwd     string            `json:"cwd,omitempty"`
	User    string            `json:"user,omitempty"`
	Env     map[string]string `json:"env,omitempty"`

	Targets         []string `json:"targets"`                     // one expression, or the machines of target_type list
	TargetType      string   `json:"target_type"`                 // glob pcre list grain grain_pcre pillar pillar_pcre nodegroup range compound ipcidr
	NumberOfTargets int      `json:"number_of_targets,omitempty"` // 0 = all
	Batch           Batch    `json:"batch,omitzero"`

	Timeout      time.Duration `json:"timeout,omitempty"`      // 0 = none
	SoftTimeout  time.Duration `json:"soft_timeout,omitempty"` // 0 = none; only logged and alerted
	KillGrace    time.Duration `json:"kill_grace"`             // TERM → KILL
	MisfireGrace time.Duration `json:"misfire_grace"`          // 0 = ticks of a gap are not made up

	AllowOverlap    bool   `json:"allow_overlap,omitempty"`
	Lockfile        string `json:"lockfile,omitempty"` // empty: the wrapper's default for the job
	WaitForChildren bool   `json:"wait_for_children"`  // the run lasts until the last holder of its output ends
	OutputLimit     int64  `json:"output_limit"`       // bytes per target

	UseWrapper      bool   `json:"use_wrapper"`
	Start           string `json:"start"` // StartClaim or StartDirect
	WrapperPath     string `json:"wrapper_path"`
	WrapperLogLevel string `json:"wrapper_loglevel"`
	WrapperLogDir   string `json:"wrapper_logdir"`
	ServerHost      string `json:"saltpeter_server_host,omitempty"`

	// Written is the mapping as the operator wrote it, as JSON, unknown keys included: what /config shows.
	Written json.RawMessage `json:"written,omitempty"`
	// Source is where the job stands on the node that read it, "file.yaml:12". It is not part of the encoding: a line more
	// at the top of a file must not make new definitions of all jobs below it.
	Source string `json:"-"`
}

// Digest identifies the content of a definition.
type Digest [sha256.Size]byte

// String gives the first 12 hexadecimal digits, enough for people.
func (d Digest) String() string { return hex.EncodeToString(d[:6]) }

// Encode gives the canonical encoding of a definition. It can't fail for a Job that Check accepts.
func (j *Job) Encode() ([]byte, error) {
	b, err := json.Marshal(j)
	if err != nil {
		return nil, fmt.Errorf("encode job %q: %w", j.Name, err)
	}
	return b, nil
}

// DecodeJob is the inverse of Encode.
func DecodeJob(b []byte) (*Job, error) {
	j := new(Job)
	if err := json.Unmarshal(b, j); err != nil {
		return nil, fmt.Errorf("decode job: %w", err)
	}
	return j, nil
}

// DigestOf gives the digest of an encoded definition.
func DigestOf(encoded []byte) Digest { return sha256.Sum256(encoded) }

// CheckJobName says what is wrong with a name, or nil: 1 to MaxJobName bytes of UTF-8 without control characters.
func CheckJobName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("job name is empty")
	case len(name) > MaxJobName:
		return fmt.Errorf("job name has %d bytes (at most %d)", len(name), MaxJobName)
	case !utf8.ValidString(name):
		return fmt.Errorf("job name is not UTF-8")
	}
	for _, r := range name {
		if unicode.IsControl(r) {
			return fmt.Errorf("job name has a control character %U", r)
		}
	}
	return nil
}

// JobStatus is a job in force together with what the record knows of it.
type JobStatus struct {
	Job      *Job
	Digest   Digest
	Revision uint64 // the configuration revision that brought this definition
	Mark     int64  // high-water mark: ticks up to and including it are decided
	Active   int    // runs that count for overlap: unfinished ones, and finished ones with a machine that came back
	LastRun  *Run   // newest claimed run, nil if none is kept
	LastEnd  *Run   // newest finished run, nil if none is kept
	Paused   *Window
	Skipped  uint64 // ticks skipped, over all reasons, since the job is known
}
