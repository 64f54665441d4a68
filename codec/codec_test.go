package codec

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
)

// goodFrames is one frame or more of each type: the smallest, an ordinary one,
// the largest that a sender makes.
func goodFrames() map[string][]byte {
	login := Login{
		SDKAppID: 1400000000, UserID: []byte("alice"), UserSig: []byte("eJw*"), Platform: Android,
		DeviceID: []byte("d-1"), SDKVersion: []byte("1.0.0"), DeviceModel: []byte("Pixel 9"),
	}
	resume := login
	resume.UserSig, resume.Resume, resume.Ticket = nil, true, []byte{1, 0, 0xff}
	kicked := make([]KickedInstance, MaxKicked)
	for i := range kicked {
		kicked[i] = KickedInstance{Platform: MiniProgram, InstID: math.MaxInt32}
	}
	frames := map[string][]byte{
		"Login":           AppendLogin(nil, &login),
		"Login resume":    AppendLogin(nil, &resume),
		"Login empty":     AppendLogin(nil, &Login{}),
		"Login full":      AppendLogin(nil, &Login{UserSig: bytes.Repeat([]byte("s"), MaxBody-4)}),
		"LoginOK":         AppendLoginOK(nil, &LoginOK{InstID: 7, Ticket: []byte("t"), ServerTimeMS: 1_800_000_000_000, HeartbeatIntervalMS: 120_000, SilenceTimeoutMS: 400_000, Kicked: kicked[:2]}),
		"LoginOK kicked":  AppendLoginOK(nil, &LoginOK{InstID: 7, Kicked: kicked, TakenBack: true}),
		"LoginOK past":    AppendLoginOK(nil, &LoginOK{ServerTimeMS: -1}),
		"LoginRefused":    AppendLoginRefused(nil, &LoginRefused{Code: CodeSigExpired, Text: "expired", RetryAfterMS: 1}),
		"ForcedOffline":   AppendForcedOffline(nil, &ForcedOffline{Code: CodeAnotherLogin, Text: "x", ByPlatform: IPad, ByDeviceModel: "m", TimeMS: 1, MayReconnect: true, RetryAfterMS: 2}),
		"Redirect":        AppendRedirect(nil, &Redirect{Address: "10.0.0.1:7700", RetryAfterMS: 3}),
		"unknown":         append(AppendHeader(nil, 127, 0xf, 3), "abc"...),
		"unknown full":    append(AppendHeader(nil, 63, FlagOptional, MaxBody), make([]byte, MaxBody)...),
		"header and more": append(AppendHeader(nil, TypeHeartbeat, 0, 1), 0xff),
	}
	for _, info := range Frames {
		if !info.Body {
			frames[info.Name] = AppendEmpty(nil, info.Type)
		}
	}
	return frames
}

func TestGoodFramesCoverAllTypes(t *testing.T) {
	seen := make(map[Type]bool)
	for _, b := range goodFrames() {
		seen[Type(b[0])] = true
	}
	for _, info := range Frames {
		if !seen[info.Type] {
			t.Errorf("no good frame of type %v", info.Type)
		}
	}
}

// Every frame cut at every byte is not there yet; whole, it is what it was.
func TestSplitAtEveryByte(t *testing.T) {
	for name, whole := range goodFrames() {
		for cut := range whole {
			if f, n, err := Next(whole[:cut], MaxFrame); n != 0 || err != nil || f.Body != nil {
				t.Fatalf("%s cut at %d of %d: %v, %d, %v", name, cut, len(whole), f, n, err)
			}
		}
		checkWhole(t, name, whole, whole)
	}
}

// Every frame is the same with any other glued to it.
func TestGluedFrames(t *testing.T) {
	frames := goodFrames()
	for nameA, a := range frames {
		for nameB, b := range frames {
			glued := append(bytes.Clone(a), b...)
			checkWhole(t, nameA+" before "+nameB, glued, a)
			checkWhole(t, nameB+" after "+nameA, glued[len(a):], b)
		}
	}
}

// checkWhole checks that the first frame in buf is want.
func checkWhole(t *testing.T, name string, buf, want []byte) {
	t.Helper()
	f, n, err := Next(buf, MaxFrame)
	if err != nil || n != len(want) {
		t.Fatalf("%s: took %d bytes, %v, want %d", name, n, err, len(want))
	}
	if f.Type != Type(want[0]) || f.Flags != want[1]&0xf || !bytes.Equal(f.Body, want[HeaderSize:]) {
		t.Fatalf("%s: got %v", name, f)
	}
	if cap(f.Body) != len(f.Body) {
		t.Fatalf("%s: an append to the body would write over the next frame", name)
	}
	again := append(AppendHeader(nil, f.Type, f.Flags, len(f.Body)), f.Body...)
	if !bytes.Equal(again, want) {
		t.Fatalf("%s: encodes again as %x, was %x", name, again, want)
	}
}

func TestNextRefuses(t *testing.T) {
	for _, tc := range []struct {
		name string
		buf  string
		max  int
		code Code // 0: incomplete or good
	}{
		{"nothing", "", MaxFrame, 0},
		{"type 0, one byte", "\x00", MaxFrame, CodeMalformedFrame},
		{"type 0 before version", "\x00\x00", MaxFrame, CodeMalformedFrame},
		{"type alone", "\x01", MaxFrame, 0},
		{"version 0", "\x01\x00", MaxFrame, CodeBadVersion},
		{"version 1", "\x01\x10", MaxFrame, 0},
		{"version 2", "\x01\x20", MaxFrame, CodeBadVersion},
		{"version 15", "\x01\xff", MaxFrame, CodeBadVersion},
		{"HTTP", "GET / HTTP/1.1\r\n\r\n", MaxFrame, CodeBadVersion},
		{"TLS hello", "\x16\x03\x01\x00\xa5", MaxFrame, CodeBadVersion},
		{"version before size", "\x01\x20\xff\xff", MaxFrameBeforeLogin, CodeBadVersion},
		{"half a length", "\x01\x10\xff", MaxFrameBeforeLogin, 0},
		{"N-1 before login", "\x01\x10\x1f\xfb", MaxFrameBeforeLogin, 0},
		{"N before login", "\x01\x10\x1f\xfc", MaxFrameBeforeLogin, 0},
		{"N+1 before login", "\x01\x10\x1f\xfd", MaxFrameBeforeLogin, CodeFrameTooLarge},
		{"N after login", "\x01\x10\xff\xff", MaxFrame, 0},
		{"N+1 after login", "\x01\x10\xff\xff", MaxFrame - 1, CodeFrameTooLarge},
		{"no room at all", "\x02\x10\x00\x00", HeaderSize - 1, CodeFrameTooLarge},
		{"room for a header", "\x02\x10\x00\x00", HeaderSize, 0},
	} {
		_, n, err := Next([]byte(tc.buf), tc.max)
		var fe *FrameError
		switch {
		case tc.code == 0 && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.code != 0 && (!errors.As(err, &fe) || fe.Code != tc.code || fe.Text == "" || n != 0):
			t.Errorf("%s: took %d bytes, %#v, want code %d", tc.name, n, err, tc.code)
		}
	}
}

// Whole frames at the limit before login, to the byte.
func TestFrameLimit(t *testing.T) {
	for _, limit := range []int{MaxFrameBeforeLogin, MaxFrame} {
		for _, size := range []int{limit - 1, limit, limit + 1} {
			if size > MaxFrame {
				continue // cannot be written down
			}
			body := size - HeaderSize
			buf := append(AppendHeader(nil, TypeLogin, 0, body), make([]byte, body)...)
			_, n, err := Next(buf, limit)
			if ok := size <= limit; ok != (err == nil) || ok != (n == size) {
				t.Errorf("frame of %d bytes under limit %d: took %d, %v", size, limit, n, err)
			}
		}
	}
}

// A message that fits exactly is sent; one byte more and nothing is.
func TestBodyLimit(t *testing.T) {
	const overhead = 4 // tag and three bytes of length
	for _, size := range []int{MaxBody - 1, MaxBody, MaxBody + 1, 1 << 20} {
		got := AppendLogin([]byte("kept"), &Login{UserSig: bytes.Repeat([]byte("s"), size-overhead)})
		want := len("kept")
		if size <= MaxBody {
			want += HeaderSize + size
		}
		if len(got) != want || string(got[:4]) != "kept" {
			t.Errorf("body of %d bytes: %d bytes appended, want %d", size, len(got)-4, want-4)
		}
	}
	if got := AppendLoginOK(nil, &LoginOK{Ticket: make([]byte, 1<<17)}); len(got) != 0 {
		t.Errorf("LoginOK with a huge ticket: %d bytes appended", len(got))
	}
}

func TestOptionalFlag(t *testing.T) {
	for flags := range uint8(16) {
		f, _, err := Next(AppendHeader(nil, 99, flags, 0), MaxFrame)
		if err != nil || f.Optional() != (flags&1 == 1) {
			t.Errorf("flags %04b: optional %v, %v", flags, f.Optional(), err)
		}
	}
	if got := AppendHeader(nil, 1, 0xff, 0); got[1] != Version<<4|0xf {
		t.Errorf("flags spill into the version: %#x", got[1])
	}
}

func TestFrameTable(t *testing.T) {
	for i, info := range Frames {
		if i > 0 && info.Type <= Frames[i-1].Type {
			t.Errorf("row %d: type %d after %d", i, info.Type, Frames[i-1].Type)
		}
		if info.FromClient != (info.Type <= 63) || info.Type == 0 || info.Type > 127 || info.Type == 64 {
			t.Errorf("%s: type %d is not in its direction's range", info.Name, info.Type)
		}
		if info.FromClient && info.Last {
			t.Errorf("%s: only the server closes", info.Name)
		}
		if info.Type.String() != info.Name {
			t.Errorf("%s is printed as %q", info.Name, info.Type)
		}
	}
	if _, ok := Type(63).Info(); ok || Type(63).String() != "Type(63)" {
		t.Errorf("type 63 is known as %q", Type(63))
	}
}

func TestCodeTable(t *testing.T) {
	names, closes := make(map[string]bool), make(map[uint16]bool)
	for i, info := range Codes {
		if i > 0 && info.Code <= Codes[i-1].Code {
			t.Errorf("row %d: code %d after %d", i, info.Code, Codes[i-1].Code)
		}
		if info.Name == "" || names[info.Name] {
			t.Errorf("code %d: name %q is empty or taken", info.Code, info.Name)
		}
		names[info.Name] = true
		if info.Text == "" || len(info.Text) > MaxText || strings.ContainsAny(info.Text, "|\n") {
			t.Errorf("code %d: text %q", info.Code, info.Text)
		}
		switch c := info.WSClose; {
		case c >= 4000 && c <= 4999 && closes[c], c < 1001 || (c > 1003 && c < 1007) || (c > 1013 && c < 4000) || c > 4999:
			t.Errorf("code %d: WebSocket close %d is taken or none to send", info.Code, c)
		default:
			closes[c] = true
		}
		if info.Code.String() != info.Name {
			t.Errorf("code %d is printed as %q", uint32(info.Code), info.Code)
		}
	}
	if info, ok := Code(1).Info(); ok || info.Reconnect || Code(1).String() != "Code(1)" {
		t.Errorf("code 1: %+v, %v", info, ok)
	}
}

func TestPlatforms(t *testing.T) {
	all := Platforms()
	for i, p := range all {
		if int(p) != i+1 {
			t.Errorf("row %d: platform %d", i, p)
		}
		if got, ok := ParsePlatform(p.String()); !ok || got != p {
			t.Errorf("%v parses as %v, %v", p, got, ok)
		}
	}
	for _, p := range []Platform{0, Platform(len(all) + 1), 255} {
		if p.String() != "unknown" {
			t.Errorf("platform %d is %q", p, p)
		}
	}
	for _, s := range []string{"", "android", "unknown", "PC"} {
		if p, ok := ParsePlatform(s); ok {
			t.Errorf("%q parses as %v", s, p)
		}
	}
}

// FuzzNext: no panic, never more than there is, the same answer however the
// stream is cut, and what was taken encodes back to what it was.
func FuzzNext(f *testing.F) {
	for _, b := range goodFrames() {
		if len(b) < 4096 {
			f.Add(b, MaxFrame)
		}
	}
	f.Add([]byte("\x01\x10\xff\xff"), MaxFrameBeforeLogin)
	f.Fuzz(func(t *testing.T, buf []byte, max int) {
		frame, n, err := Next(buf, max)
		if n < 0 || n > len(buf) || err != nil && n != 0 {
			t.Fatalf("took %d of %d bytes, %v", n, len(buf), err)
		}
		if err != nil {
			checkRefusedPrefixes(t, buf, max, err.(*FrameError).Code)
		}
		if n == 0 {
			return
		}
		again := append(AppendHeader(nil, frame.Type, frame.Flags, len(frame.Body)), frame.Body...)
		if !bytes.Equal(again, buf[:n]) {
			t.Fatalf("%x encodes again as %x", buf[:n], again)
		}
		for cut := range n {
			if _, m, err := Next(buf[:cut], max); m != 0 || err != nil {
				t.Fatalf("cut at %d of %d: took %d, %v", cut, n, m, err)
			}
		}
	})
}

// checkRefusedPrefixes checks that no cut of a refused buf is good or is refused
// for another reason.
func checkRefusedPrefixes(t *testing.T, buf []byte, max int, code Code) {
	t.Helper()
	for cut := range min(len(buf), HeaderSize) {
		_, n, err := Next(buf[:cut], max)
		if n != 0 || err != nil && err.(*FrameError).Code != code {
			t.Fatalf("cut at %d: took %d, %v; whole: code %d", cut, n, err, code)
		}
	}
}
