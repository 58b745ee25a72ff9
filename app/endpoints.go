package app

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/saltclient"
)

// endpoints keeps the ways through salt-api, each with its session, as long as its entry in the settings stays the same.
type endpoints struct {
	mu   sync.Mutex // guards open
	open map[saltpeter.SaltAPI]*saltclient.API
}

// masters gives the ways of the entries in force, in their order, and closes those of others.
func (e *endpoints) masters(set []saltpeter.SaltAPI) []saltclient.Master {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := make(map[saltpeter.SaltAPI]*saltclient.API, len(set))
	out := make([]saltclient.Master, len(set))
	for i, s := range set {
		way := e.open[s]
		if way == nil {
			way = saltclient.NewAPI(saltclient.APIOptions{
				URL: s.URL, EAuth: s.EAuth, User: s.User, CAFile: s.CAFile, Insecure: s.Insecure,
				Password: func() (string, error) { return endpointPassword(s) },
			})
		}
		now[s], out[i] = way, way
	}
	for s, way := range e.open {
		if now[s] == nil {
			way.Close()
		}
	}
	e.open = now
	return out
}

// endpointPassword reads the password anew, so that it can be changed while the node runs. A line's end is no part of it.
func endpointPassword(s saltpeter.SaltAPI) (string, error) {
	if s.PasswordEnv != "" {
		text, ok := os.LookupEnv(s.PasswordEnv)
		if !ok {
			return "", fmt.Errorf("the environment has no %s (password_env)", s.PasswordEnv)
		}
		return text, nil
	}
	b, err := os.ReadFile(s.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read password_file: %w", err)
	}
	text := strings.TrimRight(string(b), "\r\n")
	if text == "" {
		return "", errors.New("password_file " + s.PasswordFile + " is empty")
	}
	return text, nil
}
