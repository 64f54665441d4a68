package ws

import "bytes"

// Reader puts together what one side sends. Its zero value is at the beginning of
// a message; while Idle it holds nothing, so it need not be kept.
type Reader struct {
	op      Op   // of the message; Continuation: none is in progress
	fin     bool // the frame that is being read is the message's last
	left    int  // bytes of its payload that are to come
	mask    [4]byte
	offset  int    // bytes of its payload that were there
	buf     []byte // the message so far, unmasked
	checked int    // bytes of buf that are known to be UTF-8
}

// Limit is what a Reader may take.
type Limit struct {
	From Side
	Max  int // bytes of a message, all its fragments together
}

// Message is what a Take gave: a whole message or a control frame.
type Message struct {
	Op      Op     // Continuation: nothing is complete yet
	Payload []byte // aliases the input or the Reader's memory: good until the next Take
}

// Idle reports whether the Reader stands between two messages.
func (r *Reader) Idle() bool { return r.op == Continuation }

// Held is how many bytes of memory an unfinished message has taken.
func (r *Reader) Held() int { return cap(r.buf) }

// Take takes the first unit of p and returns how many bytes it took: a control
// frame, a message, or a part of one. 0 means that a header or a control frame is
// not all there. It unmasks in place what it takes, and nothing else. After an
// error the link cannot go on. What a stream gives does not depend on how it was cut.
func (r *Reader) Take(p []byte, l Limit) (m Message, n int, err *Error) {
	if r.left > 0 {
		return r.more(p)
	}
	h, size, err := NextHeader(p, l.From, max(l.Max-len(r.buf), MaxControl))
	if err != nil || size == 0 {
		return Message{}, 0, err
	}
	if h.Op.Control() {
		return takeControl(p, h, size)
	}
	if err := r.begin(h, l.Max); err != nil {
		return Message{}, 0, err
	}
	if h.Fin && len(r.buf) == 0 && len(p) >= size+h.Length {
		return r.whole(p[size:size+h.Length], size)
	}
	m, n, err = r.more(p[size:])
	return m, size + n, err
}

// begin takes a data frame's header, sections 5.4 and 5.6.
func (r *Reader) begin(h Header, most int) *Error {
	switch {
	case h.Op == Continuation && r.Idle():
		return errorf(CloseProtocol, "a continuation of nothing")
	case h.Op != Continuation && !r.Idle():
		return errorf(CloseProtocol, "a new message before the last one's end")
	case len(r.buf)+h.Length > most:
		return errorf(CloseTooBig, "a message of more than %d bytes", most)
	}
	if h.Op != Continuation {
		r.op = h.Op
	}
	r.fin, r.left, r.mask, r.offset = h.Fin, h.Length, h.Mask, 0
	return nil
}

// whole takes a message that is there in one piece: nothing is copied.
func (r *Reader) whole(payload []byte, size int) (Message, int, *Error) {
	Cipher(payload, r.mask, 0)
	m := Message{r.op, payload}
	*r = Reader{}
	if m.Op == Text && !validText(payload) {
		return Message{}, 0, errNotText()
	}
	return m, size + len(payload), nil
}

// more takes what is there of the frame's payload. A text that is no UTF-8 is
// found out with the byte that spoils it, not with the message's end.
func (r *Reader) more(p []byte) (Message, int, *Error) {
	n := min(r.left, len(p))
	at := len(r.buf)
	r.buf = append(r.buf, p[:n]...)
	Cipher(r.buf[at:], r.mask, r.offset)
	r.left -= n
	r.offset += n
	if r.op == Text && !r.check() {
		return Message{}, 0, errNotText()
	}
	if r.left > 0 || !r.fin {
		return Message{}, n, nil
	}
	m := Message{r.op, r.buf}
	*r = Reader{}
	return m, n, nil
}

// check looks at the text that came last; at the message's end nothing may be open.
func (r *Reader) check() bool {
	n, ok := textSoFar(r.buf[r.checked:])
	r.checked += n
	ended := r.fin && r.left == 0
	return ok && (!ended || r.checked == len(r.buf))
}

func errNotText() *Error { return errorf(CloseBadPayload, "a text message that is not UTF-8") }

// takeControl takes a control frame: these may stand between the fragments of a
// message, section 5.4. It is small, so it waits until it is all there.
func takeControl(p []byte, h Header, size int) (Message, int, *Error) {
	if len(p) < size+h.Length {
		return Message{}, 0, nil
	}
	payload := p[size : size+h.Length]
	if h.Masked {
		Cipher(payload, h.Mask, 0)
	}
	return Message{h.Op, payload}, size + h.Length, nil
}

// Clone copies a message out of the memory that it aliases.
func (m Message) Clone() Message { return Message{m.Op, bytes.Clone(m.Payload)} }
