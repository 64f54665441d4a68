package enginetest

import (
	"fmt"
	"strings"
	"sync"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// log is what can be seen from outside, in order. As the directory's sink it
// hears of each committed transition.
type log struct {
	links int                      // connections opened so far
	next  directory.TransitionSink // may be nil

	// Guarded by mu: sweeps tell from a goroutine of their own.
	mu  sync.Mutex
	out strings.Builder
}

var _ directory.TransitionSink = (*log)(nil)

func (g *log) say(format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fmt.Fprintf(&g.out, format+"\n", args...)
}

func (g *log) take() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.out.Reset()
	return g.out.String()
}

// say tells of something that the client of the link saw.
func (l *Link) say(format string, args ...any) {
	who := ""
	if l.device != nil {
		who = " " + l.device.UserID + " " + l.device.ID
	}
	l.node.log.say("[%d%s] "+format, append([]any{l.number, who}, args...)...)
}

// Transitions implements directory.TransitionSink.
func (g *log) Transitions(ts []presence.Transition) {
	if g.next != nil {
		g.next.Transitions(ts)
	}
	for i := range ts {
		t := &ts[i]
		what := fmt.Sprintf("%s(%s) %s #%d %s", t.Action, t.Reason, t.Key.UserID, t.Inst.InstID, instanceStatus(t.Inst.Status))
		if t.EventSeq == 0 {
			g.say("no event: %s", what)
			continue
		}
		g.say("event %d: %s, from %s, user %s%s", t.EventSeq, what, origin(t), t.UserStatus, kickedDevices(t.Kicked))
	}
}

func instanceStatus(s presence.Status) string {
	if s == presence.Offline {
		return "none"
	}
	return s.String()
}

// origin is the webhook's OptPlatform.
func origin(t *presence.Transition) string {
	if t.ByREST {
		return "RESTAPI"
	}
	return t.Inst.Device.Platform.WebhookName()
}

func kickedDevices(kicked []presence.Instance) string {
	if len(kicked) == 0 {
		return ""
	}
	var names []string
	for i := range kicked {
		names = append(names, kicked[i].Device.Platform.KickedName())
	}
	return ", KickedDevice " + strings.Join(names, " ")
}
