package wrapper

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/syscollective/saltpeter/internal/wire"
)

const (
	raceStagger = 250 * time.Millisecond // between two dials of a race
	raceLimit   = 10 * time.Second       // for a dial, from connect to challenge
)

// longAway is after how many tries in vain nodes are taken to stay away for a while.
const longAway = 1000

// errNoWinner says that a race ended without a challenge that was wanted.
var errNoWinner = errors.New("no gateway sent a usable challenge")

// dialed is a connection with the challenge that came first on it.
type dialed struct {
	link      Link
	url       string
	challenge *wire.Message
}

// race dials the URLs one after the other, raceStagger apart, at once when one fails, and gives the first connection whose
// challenge is wanted. A stopped node accepts TCP and stays silent, so nothing less than a challenge counts. All others are
// closed, and their goroutines ended, before it returns.
func race(ctx context.Context, d Dialer, urls []string, want func(*wire.Message) error) (dialed, error) {
	ctx, cancel := context.WithTimeout(ctx, raceLimit+time.Duration(len(urls))*raceStagger)
	defer cancel()
	results := make(chan raceResult)
	var errs []error
	started, ended := 0, 0
	next := time.NewTimer(0)
	defer next.Stop()
	var winner dialed
	for won := false; ended < started || (!won && started < len(urls)); {
		select {
		case <-next.C:
			if !won && started < len(urls) {
				go func(url string) { results <- dialOne(ctx, d, url, want) }(urls[started])
				started++
				next.Reset(raceStagger)
			}
		case r := <-results:
			ended++
			switch {
			case r.err != nil:
				errs = append(errs, fmt.Errorf("%s: %w", r.url, r.err))
				next.Reset(0)
			case won:
				r.link.Close()
			default:
				won, winner = true, r.dialed
				cancel()
			}
		}
	}
	if winner.link == nil {
		return dialed{}, fmt.Errorf("%w: %w", errNoWinner, errors.Join(errs...))
	}
	return winner, nil
}

type raceResult struct {
	dialed
	err error
}

// dialOne dials one URL and waits for its challenge.
func dialOne(ctx context.Context, d Dialer, url string, want func(*wire.Message) error) raceResult {
	ctx, cancel := context.WithTimeout(ctx, raceLimit)
	defer cancel()
	r := raceResult{dialed: dialed{url: url}}
	if r.link, r.err = d.Dial(ctx, url); r.err != nil {
		return r
	}
	r.challenge, r.err = r.link.Recv(ctx)
	if r.err == nil {
		r.err = want(r.challenge)
	}
	if r.err != nil {
		r.link.Close()
	}
	return r
}

// wantChallenge checks a gateway's first message.
func wantChallenge(m *wire.Message, cluster string) error {
	switch {
	case m.Type != wire.TypeChallenge:
		return fmt.Errorf("first message is %q, not a challenge", m.Type)
	case !slices.Contains(m.Versions, wire.Version):
		return fmt.Errorf("gateway speaks versions %v, not %d", m.Versions, wire.Version)
	case m.Cluster != cluster:
		return fmt.Errorf("gateway is of cluster %q, not %q", m.Cluster, cluster)
	}
	return nil
}

// backoff gives the pause before the n-th try after a break, from 0: the first within 200 ms, so that a node's wrappers don't
// come back in one instant, then longer and longer up to a few seconds, and after about an hour up to half a minute.
func backoff(n int) time.Duration {
	if n == 0 {
		return rand.N(200 * time.Millisecond)
	}
	top := min(250*time.Millisecond<<min(n, 10), 5*time.Second)
	if n > longAway {
		top = 30 * time.Second
	}
	return top/2 + rand.N(top/2)
}

// wantFresh checks a challenge like wantChallenge, and that its node hears the leader.
func wantFresh(m *wire.Message, cluster string) error {
	if err := wantChallenge(m, cluster); err != nil {
		return err
	}
	if age := leaderAge(m); age < 0 || age > sickAfter {
		return fmt.Errorf("gateway last heard the leader %v ago, like the one in use", age)
	}
	return nil
}

func shuffled(urls []string) []string {
	out := slices.Clone(urls)
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}
