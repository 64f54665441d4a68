package api

import (
	"encoding/json"
	"errors"
	"strconv"

	"github.com/rollcall-im/rollcall/internal/webhook"
)

// Bounds of what one call lists, replays or skips.
const (
	defaultLettersPage = 50
	maxLettersPage     = 1000
	defaultEventsPage  = 100
	maxEventsPage      = 1000
)

// Webhooks is what the console shows and settles of events: a webhook.Dispatcher.
type Webhooks interface {
	DeadLetters(app uint32, before uint64, max int) []webhook.DeadLetter
	Replay(app uint32, ids []uint64, max int) (int, error)
	Skip(app uint32, ids []uint64, max int) int
	Events(app uint32, after string, limit int) (webhook.EventPage, bool, error)
}

// noWebhooks is a server that keeps none.
type noWebhooks struct{}

func (noWebhooks) DeadLetters(uint32, uint64, int) []webhook.DeadLetter { return nil }
func (noWebhooks) Replay(uint32, []uint64, int) (int, error)            { return 0, nil }
func (noWebhooks) Skip(uint32, []uint64, int) int                       { return 0 }
func (noWebhooks) Events(_ uint32, after string, _ int) (webhook.EventPage, bool, error) {
	return webhook.EventPage{}, after == "", nil
}

// letterView is a dead letter.
type letterView struct {
	ID       uint64
	UserID   string
	EventSeq uint64
	Webhook  string `json:"WebhookID"`
	Cause    string
	QueuedMS int64
	DeadMS   int64
	Attempts int             `json:",omitempty"` // in this life of the server; absent if none
	Event    json.RawMessage `json:",omitempty"` // absent if the store cannot read it
}

// listDeadLetters pages through an app's dead letters, the newest first.
func (c *consoleCall) listDeadLetters() (reply, error) {
	if _, err := c.settings(); err != nil {
		return reply{}, err
	}
	limit, err := c.limit(defaultLettersPage, maxLettersPage)
	if err != nil {
		return reply{}, err
	}
	var before uint64
	if after, given := c.params["after"]; given {
		if before, err = strconv.ParseUint(after, 10, 64); err != nil || before == 0 {
			return reply{}, badRequest("after %q: this is no cursor of an earlier answer", after)
		}
	}
	letters := c.s.opts.Webhooks.DeadLetters(c.app, before, limit+1)
	page := struct {
		DeadLetters []letterView
		Next        string `json:",omitempty"`
	}{DeadLetters: []letterView{}}
	if len(letters) > limit {
		letters = letters[:limit]
		page.Next = strconv.FormatUint(letters[limit-1].ID, 10)
	}
	for i := range letters {
		l := &letters[i]
		page.DeadLetters = append(page.DeadLetters, letterView{
			l.ID, l.Event.Key.UserID, l.Event.Seq, l.Event.ID(), l.Cause, l.Event.QueuedMS, l.DeadMS, l.Event.Attempts, l.Event.Body,
		})
	}
	return ok(page), nil
}

// lettersInput names dead letters: some, or the oldest ones there are.
func (c *consoleCall) lettersInput() (ids []uint64, err error) {
	var in struct {
		IDs []uint64
		All bool
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if in.All == (in.IDs != nil) {
		return nil, invalid(`want either {"IDs":[<number>,...]} or {"All":true}`)
	}
	if n := len(in.IDs); !in.All && (n == 0 || n > maxLettersPage) {
		return nil, invalid("IDs: got %d, want 1 to %d", n, maxLettersPage)
	}
	_, err = c.settings()
	return in.IDs, err
}

// left reports whether the app has dead letters yet: All takes a bounded number of them.
func (c *consoleCall) left() bool {
	return len(c.s.opts.Webhooks.DeadLetters(c.app, 0, 1)) > 0
}

// replayDeadLetters queues dead letters again.
func (c *consoleCall) replayDeadLetters() (reply, error) {
	ids, err := c.lettersInput()
	if err != nil {
		return reply{}, err
	}
	n, err := c.s.opts.Webhooks.Replay(c.app, ids, maxLettersPage)
	switch {
	case errors.Is(err, webhook.ErrFull):
		return reply{}, conflict("the outbox is full after %d were replayed; the others are dead letters still", n)
	case err != nil:
		c.s.log.Error("cannot replay dead letters", "app", c.app, "error", err)
		return reply{}, unavailable("the store cannot be read after %d were replayed", n)
	}
	return ok(struct {
		Replayed int
		Left     bool
	}{n, c.left()}), nil
}

// skipDeadLetters forgets dead letters.
func (c *consoleCall) skipDeadLetters() (reply, error) {
	ids, err := c.lettersInput()
	if err != nil {
		return reply{}, err
	}
	n := c.s.opts.Webhooks.Skip(c.app, ids, maxLettersPage)
	return ok(struct {
		Skipped int
		Left    bool
	}{n, c.left()}), nil
}

// eventView is a logged event, in the words of a batch.
type eventView struct {
	Cursor      string
	ID          string
	ClientIP    string
	OptPlatform string
	Event       json.RawMessage
}

// listEvents pages through the recent events of an app, the oldest first.
func (c *consoleCall) listEvents() (reply, error) {
	if _, err := c.settings(); err != nil {
		return reply{}, err
	}
	limit, err := c.limit(defaultEventsPage, maxEventsPage)
	if err != nil {
		return reply{}, err
	}
	after := c.params["after"]
	page, isCursor, err := c.s.opts.Webhooks.Events(c.app, after, limit)
	switch {
	case !isCursor:
		return reply{}, badRequest("after %q: this is no cursor of an earlier answer", after)
	case err != nil:
		c.s.log.Error("cannot read the log of events", "app", c.app, "error", err)
		return reply{}, unavailable("the store cannot be read")
	}
	out := struct {
		Events []eventView
		Next   string
		More   bool
		Gap    bool
	}{[]eventView{}, page.Next, page.More, page.Gap}
	for i := range page.Events {
		e := &page.Events[i].Event
		out.Events = append(out.Events, eventView{page.Events[i].Cursor, e.ID(), e.IP(), e.OptPlatform, e.Body})
	}
	return ok(out), nil
}
