package bench

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rollcall-im/rollcall/codec"
)

// take handles the frames in p, and keeps what is not whole. It reports false
// if the link was closed.
func (s *swarm) take(l *link, p []byte) bool {
	if len(l.rest) > 0 {
		l.rest = append(l.rest, p...)
		p = l.rest
	}
	for {
		n, ok := s.unit(l, p)
		if !ok {
			return false
		}
		if n == 0 {
			l.rest = keep(l.rest, p)
			return true
		}
		p = p[n:]
	}
}

// unit handles the first message in p and returns its length, 0 if it is not all
// there; false if it closed the link.
func (s *swarm) unit(l *link, p []byte) (n int, ok bool) {
	if l.state == linkGreeting {
		n, err := s.tongue.greeted(p, l.index)
		if err != nil {
			s.fail(l, FaultLoginRefused, "user %q: %v", s.pop.userID(l.user), err)
			return 0, false
		}
		return n, n == 0 || s.sendLogin(l)
	}
	h, err := s.tongue.next(p)
	switch {
	case err != nil:
		s.fail(l, FaultFrame, "user %q: %v", s.pop.userID(l.user), err)
		return 0, false
	case h.n == 0:
		return 0, true
	case len(h.reply) > 0 && !s.send(l, h.reply):
		return 0, false
	case h.frame.Type == 0:
		return h.n, true
	}
	return h.n, s.frame(l, h.frame)
}

// keep returns a buffer with the bytes of p, nil if there are none, so that an
// idle link holds no memory.
func keep(old, p []byte) []byte {
	if len(p) == 0 {
		return nil
	}
	if len(old) > 0 {
		return append(old[:0], p...)
	}
	return append([]byte(nil), p...)
}

// frame handles one frame; false if it closed the link.
func (s *swarm) frame(l *link, f codec.Frame) bool {
	switch {
	case f.Type == codec.TypeLoginOK && l.state == linkLoggingIn:
		return s.loginOK(l, f.Body)
	case f.Type == codec.TypeHeartbeatOK && l.state == linkBeating:
		s.beatOK(l)
		return true
	case f.Type == codec.TypeHeartbeatOK && (l.state == linkLeaving || l.state == linkSilent) && l.crossing:
		l.crossing = false
		s.beatsOK.Add(1)
		return true
	case f.Type == codec.TypeLogoutOK && l.state == linkLeaving:
		record(s.logout, s.now()-l.sent)
		l.state = linkLeft
		return true
	}
	return s.refused(l, f)
}

// refused handles a frame that nobody wished for.
func (s *swarm) refused(l *link, f codec.Frame) bool {
	id := s.pop.userID(l.user)
	switch f.Type {
	case codec.TypeLoginRefused:
		var m codec.LoginRefused
		err := m.Unmarshal(f.Body)
		if err == nil && s.turnedAway(l, &m) {
			s.close(l, true)
			return false
		}
		s.fail(l, FaultLoginRefused, "user %q: %d %s%s", id, m.Code, m.Text, undecoded(err))
	case codec.TypeForcedOffline:
		var m codec.ForcedOffline
		err := m.Unmarshal(f.Body)
		if err == nil && l.live() && s.notice(l, &m) {
			s.leave(l, linkLeft)
			s.at(l, s.now()+s.o.AnswerTimeout)
			return true
		}
		s.fail(l, FaultForced, "user %q: %d %s%s", id, m.Code, m.Text, undecoded(err))
	case codec.TypeRedirect:
		s.fail(l, FaultLoginRefused, "user %q: redirect", id)
	default:
		if f.Optional() {
			return true
		}
		s.fail(l, FaultFrame, "user %q: %v in state %d", id, f.Type, l.state)
	}
	return false
}

// undecoded says of a frame that it did not decode, if so.
func undecoded(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf(" (%v)", err)
}

// loginOK checks the answer to a login.
func (s *swarm) loginOK(l *link, body []byte) bool {
	var m codec.LoginOK
	err := m.Unmarshal(body)
	interval, silence := time.Duration(m.HeartbeatIntervalMS)*time.Millisecond, time.Duration(m.SilenceTimeoutMS)*time.Millisecond
	if err != nil || m.InstID == 0 || m.ServerTimeMS == 0 || interval <= 0 || silence < 2*interval || len(m.Kicked) > 0 || m.TakenBack {
		s.fail(l, FaultLoginAnswer, "user %q: %+v%s", s.pop.userID(l.user), m, undecoded(err))
		return false
	}
	now := s.now()
	record(s.login, now-l.intended)
	s.lastLogin = now
	if s.beatEvery > 0 {
		interval = min(interval, s.beatEvery)
	}
	l.state, l.interval, l.silence = linkOnline, interval, silence
	s.online.Add(1)
	s.loginsOK.Add(1)
	// The first heartbeat comes at a random part of the interval: a storm of
	// logins must not become a storm of heartbeats.
	first := time.Duration(rand.Int64N(int64(interval)))
	if s.mute {
		first = interval * 9 / 10
	}
	s.at(l, now+first)
	s.loggedIn(l)
	return l.state != linkClosed
}

func (s *swarm) beatOK(l *link) {
	now := s.now()
	recordEvery(s.beat, now-l.intended, l.interval*95/100) // the mean time from an answer to the next heartbeat
	s.beatsOK.Add(1)
	s.outstanding--
	l.state = linkOnline
	s.at(l, now+l.interval*9/10+time.Duration(rand.Int64N(int64(l.interval/10)+1)))
}

// beatNow ends the mute: every link sends heartbeats, at most `every` apart.
func (s *swarm) beatNow(every time.Duration) {
	s.mute, s.beatEvery = false, every
	now := s.now()
	for i := range s.links[:s.used] {
		if l := &s.links[i]; l.live() {
			l.interval = min(l.interval, every)
			if l.state == linkOnline { // else its time is that of the answer, and the next heartbeat comes after it
				s.at(l, now+time.Duration(rand.Int64N(int64(l.interval))))
			}
		}
	}
}

// sendBeat sends the heartbeat that is due and waits for its answer.
func (s *swarm) sendBeat(l *link) {
	now := s.now()
	s.out = s.tongue.heartbeat(s.out[:0])
	if !s.send(l, s.out) {
		return
	}
	s.beatsSent.Add(1)
	s.outstanding++
	l.state, l.intended, l.sent = linkBeating, l.due, now
	s.at(l, now+s.o.AnswerTimeout)
}

// logoutNow sends a Logout and waits for LogoutOK and the close.
func (s *swarm) logoutNow(l *link) {
	now := s.now()
	s.out = s.tongue.logout(s.out[:0])
	if !s.send(l, s.out) {
		return
	}
	l.crossing = s.leave(l, linkLeaving)
	l.sent = now
	s.at(l, now+s.o.AnswerTimeout)
}

// fallSilent sends nothing on the link any more, and returns when the server may
// first take it for dead. It has limit more to do so.
func (s *swarm) fallSilent(l *link, limit time.Duration) (dead time.Duration) {
	l.crossing = s.leave(l, linkSilent)
	dead = l.sent + l.silence
	s.at(l, dead+limit)
	return dead
}

// overdue does what a link's time has come for.
func (s *swarm) overdue(l *link) {
	id := s.pop.userID(l.user)
	switch l.state {
	case linkConnecting:
		s.fail(l, FaultConnect, "user %q: not connected in %v", id, s.o.AnswerTimeout)
	case linkGreeting, linkLoggingIn, linkShaking:
		s.fail(l, FaultLoginTimeout, "user %q: no answer in %v", id, s.o.AnswerTimeout)
	case linkOnline:
		if !s.quiet {
			s.sendBeat(l)
		}
	case linkBeating:
		s.fail(l, FaultBeatTimeout, "user %q: no answer in %v", id, s.o.AnswerTimeout)
	case linkSilent:
		s.fail(l, FaultNotClosed, "user %q: silent for %v, time-out %v, and the link is still open", id, s.now()-l.sent, l.silence)
	case linkLeaving, linkLeft:
		s.fail(l, FaultLogoutTimeout, "user %q: not done in %v", id, s.o.AnswerTimeout)
	}
}
