package clock

import (
	"slices"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// TestAdvanceOrder: calls run in order of their times, those of one time in
// order of creation, and the clock shows each call its own time.
func TestAdvanceOrder(t *testing.T) {
	c := NewManual(start)
	var got []string
	at := func(name string, d time.Duration) Timer {
		return c.AfterFunc(d, func() { got = append(got, name+"@"+c.Now().Sub(start).String()) })
	}
	at("c", 3*time.Second)
	at("a1", time.Second)
	at("a2", time.Second)
	at("late", 5*time.Second)
	c.AfterFunc(2*time.Second, func() { at("nested", time.Second/2) })
	c.Advance(4 * time.Second)
	want := []string{"a1@1s", "a2@1s", "nested@2.5s", "c@3s"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if now := c.Now().Sub(start); now != 4*time.Second {
		t.Errorf("the clock stands at %v, want 4s", now)
	}
	c.Advance(time.Second)
	if last := got[len(got)-1]; last != "late@5s" {
		t.Errorf("last call %s, want late@5s", last)
	}
}

func TestStop(t *testing.T) {
	c := NewManual(start)
	ran := false
	timer := c.AfterFunc(time.Second, func() { ran = true })
	if !timer.Stop() {
		t.Error("Stop before the time reports that it was too late")
	}
	if timer.Stop() {
		t.Error("a second Stop reports that it prevented the call")
	}
	c.Advance(time.Minute)
	if ran {
		t.Error("a stopped call ran")
	}
	done := c.AfterFunc(0, func() {})
	c.Advance(0)
	if done.Stop() {
		t.Error("Stop after the call reports that it prevented it")
	}
}
