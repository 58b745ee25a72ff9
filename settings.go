package saltpeter

import "time"

// Launchers that saltpeter_config may name.
const (
	LauncherSalt  = "salt"
	LauncherLocal = "local"
)

// How machines prove who they are, as wrapper_identity says.
const (
	IdentitySaltKey = "salt-key" // by the minion's own Salt key
	IdentityToken   = "token"    // not at all: the launch's start token is enough
)

// Settings are what is set for the whole cluster in saltpeter_config; they are replicated with a revision.
// Zero durations and sizes have been replaced by their defaults when the revision is made.
type Settings struct {
	Launcher     string   `json:"launcher"`
	LocalMinions []string `json:"local_minions,omitempty"`

	Auth    string `json:"auth"`     // "token" (default) or "none"
	APIRead string `json:"api_read"` // "token" (default) or "open"

	LogDir string `json:"logdir"`
	APIWS  bool   `json:"api_ws"`
	Debug  bool   `json:"debug,omitempty"`

	APIPort     int    `json:"api_ws_port"`
	APIBind     string `json:"api_ws_bind_addr"`
	WrapperPort int    `json:"machines_ws_port"`
	WrapperBind string `json:"machines_ws_bind_addr"`

	WrapperIdentity string `json:"wrapper_identity"`

	SaltAPI []SaltAPI `json:"salt_api,omitempty"`

	Heartbeat     time.Duration `json:"heartbeat"`
	LostAfter     time.Duration `json:"lost_after"`
	StartWindow   time.Duration `json:"start_window"`
	MisfireGrace  time.Duration `json:"misfire_grace"`
	KillGrace     time.Duration `json:"kill_grace"`
	SilenceToPing time.Duration `json:"silence_to_ping"`
	PingTimeout   time.Duration `json:"ping_timeout"`
	ResolveRetry  time.Duration `json:"resolve_retry"` // a launcher's error is retried for so long

	OutputLimit    int64         `json:"output_limit"`
	HistoryAge     time.Duration `json:"history_age"`
	HistoryRuns    int           `json:"history_runs"`
	HistoryTargets int           `json:"history_targets"`
	OutputTotal    int64         `json:"output_total"`
	FeedTotal      int64         `json:"feed_total"`

	Elasticsearch      string `json:"elasticsearch,omitempty"`
	ElasticsearchIndex string `json:"elasticsearch_index,omitempty"`
	Opensearch         string `json:"opensearch,omitempty"`
	OpensearchIndex    string `json:"opensearch_index,omitempty"`

	// Written is saltpeter_config as merged from the files, as JSON: what /config shows.
	Written []byte `json:"written,omitempty"`
}

// SaltAPI is a salt-api (rest_cherrypy) through which a Salt master is reached. It holds no secret, but says where each node
// finds it.
type SaltAPI struct {
	URL          string `json:"url"`   // "https://10.0.0.5:8000"
	EAuth        string `json:"eauth"` // a module of Salt's external_auth
	User         string `json:"user"`
	PasswordFile string `json:"password_file,omitempty"` // this or the next one
	PasswordEnv  string `json:"password_env,omitempty"`
	CAFile       string `json:"ca_file,omitempty"` // PEM; empty = the system's
	Insecure     bool   `json:"insecure,omitempty"`
}

// DefaultSettings gives the settings of an empty configuration.
func DefaultSettings() Settings {
	return Settings{
		Launcher: LauncherSalt, Auth: "token", APIRead: "token", LogDir: "/var/log/saltpeter",
		APIPort: 8888, APIBind: "0.0.0.0", WrapperPort: 8889, WrapperBind: "0.0.0.0", WrapperIdentity: IdentitySaltKey,
		Heartbeat: 5 * time.Second, LostAfter: time.Minute, StartWindow: time.Minute, MisfireGrace: time.Minute,
		KillGrace: 10 * time.Second, SilenceToPing: 5 * time.Second, PingTimeout: 15 * time.Second, ResolveRetry: time.Minute,
		OutputLimit: 1 << 20, HistoryAge: 30 * 24 * time.Hour, HistoryRuns: 1000, HistoryTargets: 1_000_000,
		OutputTotal: 2 << 30, FeedTotal: 256 << 20,
		ElasticsearchIndex: "saltpeter", OpensearchIndex: "saltpeter",
	}
}

// DefaultLocalMinions are the machines that the local launcher plays when the files name none.
func DefaultLocalMinions() []string { return []string{"local-1", "local-2", "local-3"} }

// Revision is a configuration in force. Settings and jobs come from the files of the node that led when it was made.
type Revision struct {
	Number      uint64
	Millis      int64
	Actor       string // the node whose files these are, or a person
	Proposal    string // id of the proposal that brought it
	FilesDigest string // hexadecimal SHA-256 of that node's files
	Settings    Settings
	Maintenance FileMaintenance
	Jobs        []JobDigest // sorted by name
}

// JobDigest is a job's entry in a revision.
type JobDigest struct {
	_      struct{} `cbor:",toarray"`
	Name   string
	Digest Digest
}

// FileMaintenance is saltpeter_maintenance, merged over all files.
type FileMaintenance struct {
	Global   bool     `json:"global" cbor:"1,keyasint,omitempty"`
	Machines []string `json:"machines,omitempty" cbor:"2,keyasint,omitempty"` // sorted
}
