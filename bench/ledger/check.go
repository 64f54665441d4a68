package ledger

import (
	"fmt"
	"slices"
)

// Violation is a broken promise.
type Violation struct {
	Kind string // one of the kinds
	User string // app and UserID, "" if it is about none
	Text string
}

// The kinds of violations.
const (
	LostAck         = "lost_ack"         // what was acknowledged is not there
	LostCutoff      = "lost_cutoff"      // a kick's cut-off does not hold any more
	MissingEvent    = "missing_event"    // a transition took place and no event told of it
	Reordered       = "reordered"        // an event overtook one of the same user
	SeqBackwards    = "seq_backwards"    // EventSeq began anew
	ChangedRepeat   = "changed_repeat"   // an event came again with another webhook-id or body
	IDReused        = "id_reused"        // two events with one webhook-id
	PhantomEvent    = "phantom_event"    // an event that nothing has caused
	FalseDisconnect = "false_disconnect" // a Disconnect for a device that has its link
	EarlyDisconnect = "early_disconnect" // a Disconnect before the grace was over
	GhostOnline     = "ghost_online"     // Online, and no client is there
	GhostInstance   = "ghost_instance"   // PushOnline, and it should be gone
	FalseOffline    = "false_offline"    // not Online, and the client is there
	InstReused      = "inst_reused"      // an InstID that another instance had
	WrongAnswer     = "wrong_answer"     // an answer that no rule explains
	LostSetting     = "lost_setting"     // an app's setting is not what was acknowledged
	BadRequest      = "bad_request"      // a webhook request that does not verify
	NoticeMissing   = "notice_missing"   // a link ended without its notice, or with a wrong one
	Unanswered      = "unanswered"       // no answer, and the server lives
	ServerEnded     = "server_ended"     // the server ended by itself, or did not start
	Undecided       = "undecided"        // more futures than the checker follows
)

// Report is what Check has found.
type Report struct {
	Violations []Violation
	Acks       int // operations that were acknowledged
	Unknown    int // operations without an answer
	Events     int // distinct events
	Repeats    int // events that came once more
}

// Check judges a history: nothing that was acknowledged may be lost, no event
// may be missing, none out of order, and the state at the end must be what the
// clients, the receiver and the server agree on. It reports the first violation
// of each user's events and of each user's steps.
func Check(h *History) *Report {
	r := &Report{Violations: slices.Clone(h.Found)}
	ids := make(map[string]string)
	for _, u := range h.Users {
		c := &checker{h: h, u: u, r: r}
		c.count()
		if c.receive(ids) {
			c.replay()
		}
	}
	return r
}

// checker judges one user.
type checker struct {
	h      *History
	u      *User
	r      *Report
	events []*Receipt // in the order of EventSeq, without gaps
}

func (c *checker) report(kind, format string, args ...any) {
	c.r.Violations = append(c.r.Violations, Violation{kind, fmt.Sprintf("%d/%s", c.u.App.ID, c.u.ID), fmt.Sprintf(format, args...)})
}

func (c *checker) count() {
	for i := range c.u.Steps {
		s := &c.u.Steps[i]
		switch {
		case s.Kind == Look || s.Kind == Drop:
		case s.Outcome == Unknown:
			c.r.Unknown++
		case s.Outcome == Done:
			c.r.Acks++
		}
	}
}

// receive puts the receipts in order. An event that was answered with success
// must have been preceded by all before it; a repeat must be the same to the byte.
// It reports whether the events are there without gaps.
func (c *checker) receive(ids map[string]string) bool {
	first := make(map[uint64]*Receipt)
	accepted := make(map[uint64]bool)
	var next, ahead, last uint64 = 1, 0, 0
	for i := range c.u.Receipts {
		r := &c.u.Receipts[i]
		if known := first[r.Seq]; known != nil {
			c.r.Repeats++
			if c.repeat(known, r) {
				return false
			}
		} else {
			first[r.Seq] = r
			if other := ids[r.ID]; other != "" {
				c.report(IDReused, "event %d has webhook-id %s, which %s has", r.Seq, r.ID, other)
				return false
			}
			ids[r.ID] = fmt.Sprintf("event %d of %d/%s", r.Seq, c.u.App.ID, c.u.ID)
		}
		if r.Seq > next && ahead == 0 {
			ahead = r.Seq
		}
		last = max(last, r.Seq)
		accepted[r.Seq] = accepted[r.Seq] || r.Accepted
		for accepted[next] {
			next++
		}
	}
	if c.u.Final != nil {
		last = max(last, c.u.Final.Console.EventSeq)
	}
	for seq := uint64(1); seq <= last; seq++ {
		if first[seq] == nil || !accepted[seq] && c.u.Final != nil {
			c.report(MissingEvent, "event %d of %d was never delivered%s", seq, last, c.after(first[seq-1]))
			return false
		}
		c.events = append(c.events, first[seq])
	}
	c.r.Events += len(c.events)
	if ahead > 0 {
		c.report(Reordered, "event %d came before one with a smaller EventSeq was acknowledged", ahead)
	}
	return true
}

// witnesses looks, where a count that began anew leaves no order to replay, for
// acknowledged logins of which no event tells at all.
func (c *checker) witnesses() {
	for i := range c.u.Steps {
		s := &c.u.Steps[i]
		if s.Kind == Login && s.Outcome == Done && !slices.ContainsFunc(c.u.Receipts, func(r Receipt) bool {
			e := &r.Event
			return e.Action == "Login" && e.InstID == s.InstID && s.FromMS <= e.TimeMS && e.TimeMS <= s.ToMS
		}) {
			c.report(LostAck, "step %d, %s: no event tells of it", i, c.describe(s))
			return
		}
	}
}

func (c *checker) after(r *Receipt) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("; before it was %s", r.Event)
}

// repeat compares an event with its first coming; true if it was another one.
func (c *checker) repeat(known, r *Receipt) bool {
	switch {
	case known.ID == r.ID && known.Body == r.Body:
		return false
	case known.Event.TimeMS != r.Event.TimeMS:
		c.report(SeqBackwards, "EventSeq %d was %s, and then %s", r.Seq, known.Event, r.Event)
		c.witnesses()
	case known.ID != r.ID:
		c.report(ChangedRepeat, "event %d came with webhook-id %s, and then %s", r.Seq, known.ID, r.ID)
	default:
		c.report(ChangedRepeat, "event %d came again with another body", r.Seq)
	}
	return true
}

// String is the event in a few words.
func (e Event) String() string {
	text := fmt.Sprintf("%s(%s) of instance %d on %s at %d", e.Action, e.Reason, e.InstID, e.Platform, e.TimeMS)
	if len(e.Kicked) > 0 {
		text += fmt.Sprintf(" that kicked %v", e.Kicked)
	}
	return text
}
