package wire

// What became of a gateway that sp_wrapper check dialed.
const (
	DialOK      = "ok"            // it sent a challenge
	DialHost    = "unknown-host"  // its name means nothing here
	DialRefused = "refused"       // nothing listens there
	DialTimeout = "timeout"       // no answer: a firewall, a node that stands still, a wrong address
	DialPin     = "pin-mismatch"  // it is of another cluster, or of another key of this one
	DialCluster = "other-cluster" // it has the key, and is of another cluster all the same
	DialFailed  = "failed"        // see the detail
)

// Checkup is what sp_wrapper check --json tells of its machine: one object on one line.
type Checkup struct {
	Version  string      `json:"version"`  // of the program
	Protocol int         `json:"protocol"` // that it speaks to gateways
	Millis   int64       `json:"ms"`       // the machine's wall clock, ms since 1970
	Key      *KeyCheck   `json:"key,omitempty"`
	State    *StateCheck `json:"state,omitempty"`
	Gateways []DialCheck `json:"gateways"` // in the order of --urls
}

// KeyCheck tells of the private key that proves which machine this is.
type KeyCheck struct {
	Path   string `json:"path"`
	Public Bytes  `json:"public,omitempty"` // SHA-256 of its public half (PKIX, DER)
	Error  string `json:"error,omitempty"`  // why it can't be used
}

// StateCheck tells of the directory for journal, spool and locks.
type StateCheck struct {
	Path  string `json:"path"`
	Error string `json:"error,omitempty"`
}

// DialCheck tells of one gateway.
type DialCheck struct {
	URL    string `json:"url"`
	Result string `json:"result"`
	Detail string `json:"detail,omitempty"`
	Millis int64  `json:"ms"` // until the challenge or the failure
}

// OK reports whether a wrapper could work there: with its key, its directory and any of the gateways.
func (c *Checkup) OK() bool {
	if c.Key != nil && c.Key.Error != "" || c.State != nil && c.State.Error != "" {
		return false
	}
	for i := range c.Gateways {
		if c.Gateways[i].Result == DialOK {
			return true
		}
	}
	return len(c.Gateways) == 0
}
