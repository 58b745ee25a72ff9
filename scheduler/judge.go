package scheduler

import (
	"fmt"
	"time"

	"github.com/syscollective/saltpeter"
)

// judgement is what follows from a target's silence: its end, a ping of its machine, and when to look again.
type judgement struct {
	end  *saltpeter.TargetEnd
	ping bool
	at   time.Duration
}

// unanswered is how long the end of a target may wait for its apply before it is proposed again.
const unanswered = 5 * time.Second

// judge is the one place where silence becomes an outcome. It is pure; all times are attentive, so none lies before the
// barrier of this leadership.
func judge(s *sign, state saltpeter.TargetState, set *saltpeter.Settings, now time.Duration) judgement {
	if state == saltpeter.Launched {
		return judgeLaunched(s, set, now)
	}
	if at := s.last + set.LostAfter; now < at {
		return judgement{at: at}
	}
	text := fmt.Sprintf("no sign of sp_wrapper on %s for %s; the command may still run there", s.machine.name, set.LostAfter)
	if s.batch.err != "" { // only where publishing is executing
		text += "; publish: " + s.batch.err
	}
	if state.Final() { // its winner was back; it is taken for running no more
		return ended(s, state, state, now, text)
	}
	return ended(s, state, saltpeter.Lost, now, text)
}

func judgeLaunched(s *sign, set *saltpeter.Settings, now time.Duration) judgement {
	over := max(s.batch.first, s.last) + set.StartWindow
	if now >= over {
		return ended(s, saltpeter.Launched, saltpeter.NotStarted, now, whyNotStarted(s, set))
	}
	// A start claim that is won and followed by silence must be noticed in time, too.
	latest := min(over, now+set.LostAfter)
	if s.batch.published == never || s.batch.direct || s.heard {
		return judgement{at: latest}
	}
	quiet := max(s.machine.last, s.batch.published)
	ask, gone := quiet+set.SilenceToPing, quiet+set.SilenceToPing+set.PingTimeout
	p := &s.machine.ping
	switch {
	case now < ask:
		return judgement{at: min(ask, latest)}
	case p.running:
		return judgement{at: min(max(p.began+set.PingTimeout, now)+beat, latest)}
	case p.began < s.batch.published:
		return judgement{ping: true, at: min(gone+beat, latest)}
	case p.answered: // it is up, so only the window can end it
		return judgement{at: latest}
	case !p.known || p.began < quiet:
		if now < p.ended+set.SilenceToPing {
			return judgement{at: min(p.ended+set.SilenceToPing, latest)}
		}
		return judgement{ping: true, at: min(now+set.PingTimeout+beat, latest)}
	case now < gone:
		return judgement{at: min(gone, latest)}
	default:
		return ended(s, saltpeter.Launched, saltpeter.Unreachable, now, fmt.Sprintf(
			"%s did not respond: no answer to ping within %s, no sign of any kind for %s",
			s.machine.name, set.PingTimeout, set.SilenceToPing+set.PingTimeout))
	}
}

func ended(s *sign, from, to saltpeter.TargetState, now time.Duration, text string) judgement {
	return judgement{at: now + unanswered, end: &saltpeter.TargetEnd{Target: s.ref.Target, From: from, State: to, Text: text}}
}

// whyNotStarted tells a person what to look at.
func whyNotStarted(s *sign, set *saltpeter.Settings) string {
	name, p := s.machine.name, &s.machine.ping
	switch {
	case s.heard:
		return fmt.Sprintf("sp_wrapper on %s reported but did not start the command within %s", name, set.StartWindow)
	case s.batch.err != "":
		return "launch failed: " + s.batch.err
	case p.answered && p.began >= s.batch.published:
		return fmt.Sprintf("%s answered ping but sp_wrapper did not report within %s: is it installed there, can it reach the wrapper port of a node?",
			name, set.StartWindow)
	default:
		return fmt.Sprintf("sp_wrapper on %s did not report within %s of the launch", name, set.StartWindow)
	}
}
