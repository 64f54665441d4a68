package engine

import (
	"fmt"

	"github.com/rollcall-im/rollcall/codec/ws"
)

// wsPart is what a WebSocket link needs besides its Session while something is in
// progress: a handshake's origin until the login, a message that came in pieces.
type wsPart struct {
	origin string
	reader ws.Reader
}

// wsParts are the parts of a loop's links, by slot. Most links have none, so that
// an idle WebSocket link costs no more memory than a native one.
type wsParts struct {
	bySlot map[uint32]*wsPart
	bytes  int       // of unfinished messages
	spare  ws.Reader // for links that have none
}

// of returns the session's part, which it makes if there is none.
func (w *wsParts) of(s *Session) *wsPart {
	p := w.bySlot[s.id.Slot()]
	if p == nil {
		if w.bySlot == nil {
			w.bySlot = make(map[uint32]*wsPart)
		}
		p = new(wsPart)
		w.bySlot[s.id.Slot()] = p
	}
	return p
}

// reader returns the session's reader, in the middle of a message or at the
// beginning of one; keep must follow.
func (w *wsParts) reader(s *Session) *ws.Reader {
	if p := w.bySlot[s.id.Slot()]; p != nil {
		w.bytes -= p.reader.Held()
		return &p.reader
	}
	w.spare = ws.Reader{}
	return &w.spare
}

// keep keeps the reader if a message is in progress. It reports whether there is
// room for it: all unfinished messages of the loop may take max bytes.
func (w *wsParts) keep(s *Session, r *ws.Reader, max int) bool {
	w.bytes += r.Held()
	if !r.Idle() && r == &w.spare {
		w.of(s).reader = *r
		return w.bytes <= max
	}
	if p := w.bySlot[s.id.Slot()]; p != nil && r.Idle() && p.origin == "" {
		delete(w.bySlot, s.id.Slot())
	}
	return w.bytes <= max
}

// forget forgets what was in progress, of a session whose reader was taken and is
// not kept.
func (w *wsParts) forget(s *Session) {
	if p := w.bySlot[s.id.Slot()]; p != nil {
		p.reader = ws.Reader{}
	}
	w.drop(s)
}

// drop forgets the session's part.
func (w *wsParts) drop(s *Session) {
	if p := w.bySlot[s.id.Slot()]; p != nil {
		w.bytes -= p.reader.Held()
		delete(w.bySlot, s.id.Slot())
	}
}

// unfinished reports whether part of a message of the session has come.
func (w *wsParts) unfinished(s *Session) bool {
	if len(w.bySlot) == 0 {
		return false
	}
	p := w.bySlot[s.id.Slot()]
	return p != nil && !p.reader.Idle()
}

// takeOrigin returns the origin of the session's handshake and forgets it: it is
// asked for once, by the login.
func (w *wsParts) takeOrigin(s *Session) (origin string) {
	p := w.bySlot[s.id.Slot()]
	if p == nil {
		return ""
	}
	origin, p.origin = p.origin, ""
	if p.reader.Idle() {
		delete(w.bySlot, s.id.Slot()) // a login that waited is no frame that keep comes behind
	}
	return origin
}

// check proves that every part belongs to a live link and is needed.
func (w *wsParts) check(b *slab) error {
	bytes := 0
	for slot, p := range w.bySlot {
		if b.at(slot).state == stateFree {
			return fmt.Errorf("slot %d is free and has a WebSocket part", slot)
		}
		if p.origin == "" && p.reader.Idle() {
			return fmt.Errorf("slot %d has an empty WebSocket part", slot)
		}
		bytes += p.reader.Held()
	}
	if bytes != w.bytes {
		return fmt.Errorf("WebSocket parts hold %d bytes, %d are counted", bytes, w.bytes)
	}
	return nil
}
