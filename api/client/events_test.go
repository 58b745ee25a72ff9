package client_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api/apitest"
	"github.com/syscollective/saltpeter/api/client"
)

// TestEventsGoOnAfterABreak: a stream that ends is asked for again after the last event; what is missing is told.
func TestEventsGoOnAfterABreak(t *testing.T) {
	bubble(t, oneRun, func(t *testing.T, _ *network, n *apitest.Node, c *client.Client) {
		claimed := func(id string) saltpeter.Event { return saltpeter.Event{Type: saltpeter.EventRunClaimed, Run: id} }
		n.Emit(claimed("a"), claimed("b"))
		time.AfterFunc(time.Minute, func() { n.Emit(claimed("c")) })
		time.AfterFunc(2*time.Minute, func() { // the node ends the stream
			n.BeginEpoch()
			n.Emit(claimed("d"))
		})
		stop := errors.New("enough")
		var got []string
		err := c.Events(t.Context(), client.EventsAfter{Since: "1-1", Follow: true}, func(e client.StreamEvent) error {
			if e.Gap != nil {
				got = append(got, "gap")
				return nil
			}
			if got = append(got, e.Event.Run); e.Event.Run == "d" {
				return stop
			}
			return nil
		})
		if want := []string{"b", "c", "gap", "d"}; !errors.Is(err, stop) || !slices.Equal(got, want) {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	})
}

func TestEventsEndWithTheFeed(t *testing.T) {
	bubble(t, oneRun, func(t *testing.T, _ *network, n *apitest.Node, c *client.Client) {
		n.Emit(saltpeter.Event{Type: saltpeter.EventRunClaimed, Run: "a"}, saltpeter.Event{Type: saltpeter.EventSkipped, Job: "j"})
		seen := 0
		err := c.Events(t.Context(), client.EventsAfter{Since: "0", Topics: []string{"skips"}}, func(e client.StreamEvent) error {
			if seen++; e.Event.Job != "j" {
				t.Errorf("got %+v", e.Event)
			}
			return nil
		})
		if err != nil || seen != 1 {
			t.Errorf("%d events, %v", seen, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err = c.Events(ctx, client.EventsAfter{Follow: true}, func(client.StreamEvent) error { return errors.New("there is nothing new") })
		if saltpeter.CodeOf(err) != saltpeter.CodeTimeout {
			t.Errorf("followed without events: %v", err)
		}
	})
}
