package webhook

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// maxVolatileLog bounds the events that the logs of all apps keep in memory.
const maxVolatileLog = 100_000

// logVersion is that of the record of where a log ends.
const logVersion = 1

// eventLog keeps the newest events of each app for those who pull them. With a
// storage it is written by the commits of the decisions, else it is in memory.
//
// Positions of an app's events only grow; some may be missing, of commits that
// failed. An event is not shown before it, and all with smaller positions, have
// been told: else a reader who has seen a later one would miss it.
type eventLog struct {
	// Immutable after newEventLog.
	max     int // events per app; below 1 there is no log
	epoch   uint64
	storage Storage // nil: in memory

	// Guarded by mu.
	mu    sync.Mutex
	apps  map[uint32]*appLog
	count int // in memory, of all apps
}

// appLog is the log of one app: positions first to next-1.
type appLog struct {
	first, next uint64
	epoch       uint64  // of the cursors: a log that was lost begins another
	kept        []Event // in memory; those before head have gone
	head        int
	open        []openSlot // recorded and not yet told, by position
}

type openSlot struct {
	position uint64
	told     bool
}

func newEventLog(storage Storage, max int, epoch uint64, lossy bool) (*eventLog, error) {
	l := &eventLog{max: max, epoch: epoch, storage: storage, apps: make(map[uint32]*appLog)}
	if storage == nil || max < 1 {
		return l, nil
	}
	if err := l.load(); err != nil {
		return nil, fmt.Errorf("cannot read the log of events: %w", err)
	}
	for _, a := range l.apps {
		if lossy {
			a.epoch = epoch // positions that were shown may be given again
		}
	}
	return l, nil
}

func (l *eventLog) on() bool { return l.max > 0 }

func logEndKey(app uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{kindLog, logEnd}, app)
}

func logKey(app uint32, position uint64) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kindLog, logEntry}, app)
	return binary.BigEndian.AppendUint64(b, position)
}

// load learns where the logs begin and end.
func (l *eventLog) load() error {
	var fault error
	err := l.storage.Scan([]byte{kindLog, logEnd}, []byte{kindLog, logEnd + 1}, func(key, value []byte) bool {
		var app uint32
		var a *appLog
		if app, a, fault = decodeLogEnd(key, value); fault != nil {
			return false
		}
		a.first = a.next
		l.apps[app] = a
		return true
	})
	for app, a := range l.apps {
		err = cmp.Or(err, fault, l.storage.Scan(logKey(app, 0), logKey(app, a.next), func(key, _ []byte) bool {
			a.first = binary.BigEndian.Uint64(key[len(key)-8:])
			return false
		}))
	}
	return cmp.Or(err, fault)
}

// decodeLogEnd reads where a log ends.
func decodeLogEnd(key, value []byte) (app uint32, a *appLog, err error) {
	k, r := reader{b: key}, reader{b: value}
	k.take(2)
	app = uint32(k.uint(4))
	version := r.byte()
	a = &appLog{epoch: r.uint(8), next: r.uint(8)}
	if k.bad || r.bad || len(k.b)+len(r.b) != 0 || version != logVersion || a.next == 0 {
		return 0, nil, fmt.Errorf("%w: end of a log at key %x", ErrCorrupt, key)
	}
	return app, a, nil
}

func (l *eventLog) appLocked(app uint32) *appLog {
	a := l.apps[app]
	if a == nil {
		a = &appLog{first: 1, next: 1, epoch: l.epoch}
		l.apps[app] = a
	}
	return a
}

// add logs an event in memory.
func (l *eventLog) add(e *Event) {
	if !l.on() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.appLocked(e.Key.App)
	a.kept = append(a.kept, *e)
	a.next++
	l.count++
	if a.len() > l.max {
		l.dropFirstLocked(a)
	} else if l.count > maxVolatileLog {
		l.dropFirstLocked(l.largestLocked(a))
	}
}

func (l *eventLog) dropFirstLocked(a *appLog) {
	a.kept[a.head] = Event{}
	a.head++
	a.first++
	l.count--
	if a.head > len(a.kept)/2 { // in place: an append need not make room for what has gone
		n := copy(a.kept, a.kept[a.head:])
		clear(a.kept[n:])
		a.kept, a.head = a.kept[:n], 0
	}
}

// len is the number of events in memory.
func (a *appLog) len() int { return len(a.kept) - a.head }

// largestLocked is the app with the largest log, or one of the larger ones if there are many.
func (l *eventLog) largestLocked(best *appLog) *appLog {
	looked := 0
	for _, a := range l.apps {
		if looked++; looked > maxLook {
			break
		}
		if a.len() > best.len() {
			best = a
		}
	}
	return best
}

// record writes events to w, with what has to go for them, and gives them their positions.
func (l *eventLog) record(w Writer, all []recordedEvent) {
	if !l.on() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var value []byte
	for i := range all {
		app := all[i].event.Key.App
		a := l.appLocked(app)
		all[i].position = a.next
		a.open = append(a.open, openSlot{position: a.next})
		value = appendEvent(value[:0], &all[i].event)
		w.Set(logKey(app, a.next), value)
		a.next++
		// Two at most: a log that may be smaller now shrinks as it grows.
		for n := 0; n < 2 && a.next-a.first > uint64(l.max); n++ {
			w.Delete(logKey(app, a.first))
			a.first++
		}
		if i+1 == len(all) || all[i+1].event.Key.App != app {
			w.Set(logEndKey(app), a.appendEnd(value[:0]))
		}
	}
}

func (a *appLog) appendEnd(b []byte) []byte {
	b = append(b, logVersion)
	b = binary.BigEndian.AppendUint64(b, a.epoch)
	return binary.BigEndian.AppendUint64(b, a.next)
}

// reveal shows an event whose commit has taken effect, or passes over one whose commit failed.
func (l *eventLog) reveal(r *recordedEvent) {
	if r.position == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.appLocked(r.event.Key.App)
	for i := range a.open {
		if a.open[i].position == r.position {
			a.open[i].told = true
			break
		}
	}
	for len(a.open) > 0 && a.open[0].told {
		a.open = a.open[1:]
	}
}

// end is the first position that is not shown.
func (a *appLog) end() uint64 {
	if len(a.open) > 0 {
		return a.open[0].position
	}
	return a.next
}

// LoggedEvent is an event with the cursor that stands behind it.
type LoggedEvent struct {
	Cursor string
	Event  Event
}

// EventPage is an answer of Events.
type EventPage struct {
	Events []LoggedEvent
	Next   string // cursor for the next page
	More   bool   // there is one already
	// Gap says that events after the cursor are not kept any more, or that it is
	// of a log that was lost: the page begins with the oldest event there is.
	Gap bool
}

// Events returns up to limit events of app that came after a cursor of an
// earlier page, "" = the oldest there is. ok is false if after is no cursor.
func (d *Dispatcher) Events(app uint32, after string, limit int) (page EventPage, ok bool, err error) {
	return d.log.read(app, after, limit)
}

func (l *eventLog) read(app uint32, after string, limit int) (page EventPage, ok bool, err error) {
	epoch, seen, ok := parseCursor(after)
	if !ok {
		return page, false, nil
	}
	from, end, kept, epochNow, gap := l.part(app, epoch, seen, limit)
	page.Gap = gap && after != ""
	page.Next = cursor(epochNow, from-1)
	add := func(position uint64, e Event) {
		page.Next = cursor(epochNow, position)
		page.Events = append(page.Events, LoggedEvent{page.Next, e})
	}
	for i := range kept {
		add(from+uint64(i), kept[i])
	}
	page.More = from+uint64(len(kept)) < end
	if l.storage != nil && from < end {
		page.More, err = l.scan(app, from, end, limit, add)
	}
	return page, true, err
}

// part says where a page begins and where the log ends; in memory it is all there.
func (l *eventLog) part(app uint32, epoch, seen uint64, limit int) (from, end uint64, kept []Event, epochNow uint64, gap bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.apps[app]
	if a == nil {
		a = &appLog{first: 1, next: 1, epoch: l.epoch}
	}
	from, end = seen+1, a.end()
	if epoch != a.epoch || from < a.first || from > end {
		from, gap = min(a.first, end), true
	}
	if n := min(end-from, uint64(limit)); l.storage == nil && n > 0 {
		i := uint64(a.head) + from - a.first
		kept = append(kept, a.kept[i:i+n]...)
	}
	return from, end, kept, a.epoch, gap
}

// scan reads a page from the store.
func (l *eventLog) scan(app uint32, from, end uint64, limit int, add func(uint64, Event)) (more bool, err error) {
	var fault error
	err = l.storage.Scan(logKey(app, from), logKey(app, end), func(key, value []byte) bool {
		if limit == 0 {
			more = true
			return false
		}
		var e Event
		if e, fault = decodeEvent(value); fault != nil {
			return false
		}
		limit--
		add(binary.BigEndian.Uint64(key[len(key)-8:]), e)
		return true
	})
	return more, cmp.Or(err, fault)
}

// cursor is the text of a position: opaque to callers.
func cursor(epoch, position uint64) string {
	return strconv.FormatUint(epoch, 36) + "-" + strconv.FormatUint(position, 36)
}

func parseCursor(text string) (epoch, position uint64, ok bool) {
	if text == "" {
		return 0, 0, true
	}
	e, p, found := strings.Cut(text, "-")
	epoch, err := strconv.ParseUint(e, 36, 64)
	position, err2 := strconv.ParseUint(p, 36, 64)
	return epoch, position, found && err == nil && err2 == nil && text == cursor(epoch, position) && position < 1<<63
}
