package engine

import (
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
)

// A frame to skip, of 64 KiB but a header, and one that is buffered: both must go on.
var longFrame = codec.AppendHeader(nil, 40, codec.FlagOptional, codec.MaxFrame-codec.HeaderSize)

// An incomplete frame must grow by MinProgress a second over ten seconds; else its link ends.
func TestSlowSender(t *testing.T) {
	const rate = 64
	for _, c := range []struct {
		name  string
		begin []byte
		more  int // bytes in each window of 10 s
		stays bool
	}{
		{"nothing more of a header", heartbeat[:1], 0, false},
		{"too little", longFrame, 10*rate - 1, false},
		{"enough", longFrame, 10 * rate, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(o *Options) { o.MinProgress = rate })
			k := r.open()
			k.login("alice", codec.Android, "d1")
			r.wantLog("login alice")
			k.send(c.begin...)
			for window := range 5 {
				r.advance(5 * time.Second)
				k.send(make([]byte, c.more)...)
				if window == 0 {
					r.advance(4999 * time.Millisecond)
					k.wantState("online")
					r.advance(time.Millisecond)
				} else {
					r.advance(5 * time.Second)
				}
				r.advance(late)
				if !c.stays {
					break
				}
			}
			if c.stays {
				k.wantState("online")
				k.wantNothing()
				return
			}
			if no := k.wantForced(codec.CodeSlowSender); !no.MayReconnect {
				t.Fatalf("%+v", no)
			}
			k.wantState("draining")
			r.wantLog("leave alice LinkClosed")
			r.wantCloses(closeSlowSender, 1)
		})
	}
}

// It holds for one that came together with the login.
func TestSlowSenderBehindLogin(t *testing.T) {
	r := newRig(t)
	r.dir.hold = true
	k := r.open()
	k.send(append(loginFrame(activeLogin("alice", codec.Android, "d1")), heartbeat[0])...)
	r.advance(time.Second)
	r.dir.hold = false
	r.dir.release()
	r.run()
	k.want(codec.TypeLoginOK, nil)
	r.advance(9*time.Second + late)
	k.wantForced(codec.CodeSlowSender)
	r.wantCloses(closeSlowSender, 1)
}

// It holds before the login too, where there is time for it.
func TestSlowSenderBeforeLogin(t *testing.T) {
	r := newRig(t, func(o *Options) { o.FirstFrameTimeout, o.LoginTimeout = time.Minute, time.Minute })
	k := r.open()
	frame := loginFrame(activeLogin("alice", codec.Android, "d1"))
	k.send(frame[:8]...)
	for range 9 {
		r.advance(time.Second)
		k.send(frame[len(k.in)])
	}
	r.advance(time.Second + late)
	k.wantRefused(codec.CodeSlowSender)
	r.wantLog()
	r.wantCloses(closeSlowSender, 1)
}

// Frames that come to their end are nobody's business, however they are cut, and
// leave nothing behind.
func TestCompleteFramesAreNotWatched(t *testing.T) {
	r := newRig(t)
	k := r.open()
	k.login("alice", codec.Web, "d1")
	k.send(heartbeat[:2]...)
	for range 100 {
		r.advance(5 * time.Second)
		k.send(append(append([]byte(nil), heartbeat[2:]...), heartbeat[:2]...)...)
		k.want(codec.TypeHeartbeatOK, nil)
	}
	k.send(heartbeat[2:]...)
	k.want(codec.TypeHeartbeatOK, nil)
	if n := len(r.loop.trickles); n != 0 {
		t.Fatalf("%d frames are watched, none is incomplete", n)
	}
	r.advance(50 * time.Second)
	k.wantState("online")
}

// Bytes that have come and were not read because the loop stood still count.
func TestSlowSenderStalledLoop(t *testing.T) {
	r := newRig(t)
	k := r.open()
	k.login("alice", codec.Android, "d1")
	k.send(heartbeat[:1]...)
	k.conn.unread = true
	r.clk.Advance(time.Minute)
	r.run()
	k.wantState("online")
	k.conn.unread = false
	r.advance(9999 * time.Millisecond)
	k.wantState("online")
	r.advance(time.Millisecond + late)
	k.wantForced(codec.CodeSlowSender)
}

// The watch of a link that is gone, or told its end, is gone with it: the next
// link in its slot begins anew.
func TestTrickleEndsWithLink(t *testing.T) {
	r := newRig(t)
	k := r.open()
	k.login("alice", codec.Android, "d1")
	k.send(heartbeat[:1]...)
	slot := k.s.ID().Slot()
	k.fin()
	if len(r.loop.trickles) != 0 {
		t.Fatal("a link that is gone is watched")
	}
	k = r.open()
	if k.s.ID().Slot() != slot {
		t.Fatal("the slot is not used again")
	}
	k.login("alice", codec.Android, "d1")
	r.advance(20 * time.Second)
	k.wantState("online")
}
