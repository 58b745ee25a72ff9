package saltclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"
)

const (
	// sessionLimit is how long a session is used at most: salt-api's own end after 10 hours, whatever the token says.
	sessionLimit = 8 * time.Hour
	// sessionShare is the part of a token's life after which another is taken.
	sessionShare = 0.8
	// refusedFor is how long a refused login is not tried again: more would lock the account in many directories.
	refusedFor = 30 * time.Second
)

// session holds an endpoint's token. One login is under way at a time; others wait for it.
type session struct {
	turn chan struct{} // holds one element, taken by who reads or changes the following

	token   string
	until   time.Time
	refused error // of the last login
	again   time.Time
}

func newSession() session {
	s := session{turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

// get gives a token that is not spent, by login if need be.
func (s *session) get(ctx context.Context, spent string, login func(context.Context) (string, time.Duration, error)) (string, error) {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return "", fmt.Errorf("%w: wait for login: %w", ErrUnreachable, ctx.Err())
	}
	defer func() { s.turn <- struct{}{} }()
	now := time.Now()
	if s.token != "" && s.token != spent && now.Before(s.until) {
		return s.token, nil
	}
	if s.refused != nil && now.Before(s.again) {
		return "", s.refused
	}
	s.token, s.refused = "", nil
	token, life, err := login(ctx)
	if errors.Is(err, ErrDenied) {
		s.refused, s.again = err, time.Now().Add(refusedFor)
	}
	if err != nil {
		return "", err
	}
	s.token, s.until = token, now.Add(life)
	return token, nil
}

// login gives a token and for how long it is used.
func (a *API) login(ctx context.Context) (string, time.Duration, error) {
	password, err := a.o.Password()
	if err != nil {
		return "", 0, fmt.Errorf("%w: password of %s: %w", ErrDenied, a.o.User, err)
	}
	body := map[string]string{"username": a.o.User, "password": password, "eauth": a.o.EAuth}
	var got struct {
		Token         string
		Start, Expire float64
		Perms         json.RawMessage
	}
	err = a.post(ctx, "/login", "", body, &got, ErrUnreachable)
	switch {
	case isStatus(err, http.StatusUnauthorized):
		return "", 0, fmt.Errorf("%w: login of %q with eauth %q: %w", ErrDenied, a.o.User, a.o.EAuth, err)
	case err != nil:
		return "", 0, fmt.Errorf("login: %w", err)
	case got.Token == "":
		return "", 0, fmt.Errorf("%w: login: the answer holds no token", ErrUnreachable)
	}
	a.mu.Lock()
	a.master.perms = plainPerms(got.Perms)
	a.mu.Unlock()
	return got.Token, tokenLife(got.Start, got.Expire), nil
}

// tokenLife is for how long a token is used. Its times are seconds by the master's clock: only their difference counts.
func tokenLife(start, expire float64) time.Duration {
	seconds := (expire - start) * sessionShare
	if math.IsNaN(seconds) || seconds < 0 || seconds > sessionLimit.Seconds() {
		return sessionLimit
	}
	return time.Duration(seconds * float64(time.Second))
}

// plainPerms gives the rights that are plain texts among those that a login tells: whole clients ("@runner") and functions.
func plainPerms(raw json.RawMessage) []string {
	var all []any
	if json.Unmarshal(raw, &all) != nil {
		return nil // an empty object where there are none
	}
	var out []string
	for _, p := range all {
		if text, ok := p.(string); ok {
			out = append(out, text)
		}
	}
	return out
}
