package codec

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// body returns the body of the one frame in b.
func body(t testing.TB, b []byte) []byte {
	t.Helper()
	f, n, err := Next(b, MaxFrame)
	if err != nil || n != len(b) {
		t.Fatalf("took %d of %d bytes: %v", n, len(b), err)
	}
	return f.Body
}

func TestRoundTrip(t *testing.T) {
	login := Login{
		SDKAppID: math.MaxUint32, UserID: []byte("alice"), UserSig: []byte("sig"), Platform: MiniProgram,
		DeviceID: []byte("d"), SDKVersion: []byte("1"), DeviceModel: []byte("m"), Resume: true, Ticket: []byte{0xff},
	}
	ok := LoginOK{
		InstID: math.MaxInt32, Ticket: []byte{0}, ServerTimeMS: math.MaxInt64, HeartbeatIntervalMS: 1, SilenceTimeoutMS: math.MaxUint32,
		Kicked: []KickedInstance{{Web, 1}, {}, {Android, math.MaxUint32}}, TakenBack: true,
	}
	refused := LoginRefused{Code: CodeUnavailable, Text: "not now", RetryAfterMS: 5, MayReconnect: true}
	forced := ForcedOffline{Code: CodeAnotherLogin, Text: "t", ByPlatform: IPhone, ByDeviceModel: "m", TimeMS: math.MinInt64, MayReconnect: true, RetryAfterMS: 9}
	redirect := Redirect{Address: "[::1]:7700", RetryAfterMS: 7}

	check(t, AppendLogin(nil, &login), &login, new(Login))
	check(t, AppendLogin(nil, &Login{}), &Login{}, new(Login))
	check(t, AppendLoginOK(nil, &ok), &ok, new(LoginOK))
	check(t, AppendLoginOK(nil, &LoginOK{}), &LoginOK{}, new(LoginOK))
	check(t, AppendLoginRefused(nil, &refused), &refused, new(LoginRefused))
	check(t, AppendLoginRefused(nil, &LoginRefused{}), &LoginRefused{}, new(LoginRefused))
	check(t, AppendForcedOffline(nil, &forced), &forced, new(ForcedOffline))
	check(t, AppendForcedOffline(nil, &ForcedOffline{}), &ForcedOffline{}, new(ForcedOffline))
	check(t, AppendRedirect(nil, &redirect), &redirect, new(Redirect))
	check(t, AppendRedirect(nil, &Redirect{}), &Redirect{}, new(Redirect))
}

func check(t *testing.T, frame []byte, want, got interface{ Unmarshal([]byte) error }) {
	t.Helper()
	if err := got.Unmarshal(body(t, frame)); err != nil {
		t.Fatalf("%T: %v", want, err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

// A message that is decoded into again keeps nothing of what it was.
func TestUnmarshalForgets(t *testing.T) {
	m := LoginOK{InstID: 1, Ticket: []byte("x"), Kicked: []KickedInstance{{Web, 1}}, TakenBack: true}
	if err := m.Unmarshal(nil); err != nil || !reflect.DeepEqual(m, LoginOK{}) {
		t.Errorf("%+v, %v", m, err)
	}
	l := Login{UserID: []byte("x"), Resume: true}
	if err := l.Unmarshal(nil); err != nil || !reflect.DeepEqual(l, Login{}) {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestMalformedBodies(t *testing.T) {
	for _, tc := range []struct{ name, body string }{
		{"field number 0", "\x00\x01"},
		{"field number 2^29", "\x80\x80\x80\x80\x10\x00"},
		{"tag cut", "\x80"},
		{"varint missing", "\x08"},
		{"varint of 11 bytes", "\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"},
		{"varint over 64 bits", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"},
		{"bytes cut", "\x12\x05ab"},
		{"length over all", "\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f"},
		{"fixed32 cut", "\x0d\x01\x02\x03"},
		{"fixed64 cut", "\x09\x01"},
		{"group not ended", "\x0b"},
		{"group ended, not begun", "\x0c"},
		{"group ended as another", "\x0b\x14"},
		{"wire type 6", "\x0e"},
		{"wire type 7", "\x0f"},
		{"second field spoils the first", "\x08\x01\x12\x05a"},
	} {
		for _, m := range decoders() {
			if err := m.Unmarshal([]byte(tc.body)); !errors.Is(err, errBody) {
				t.Errorf("%T, %s: %v", m, tc.name, err)
			}
		}
	}
}

// The texts of body errors go to clients: the same in every build (protobuf's
// own are not, on purpose), plain ASCII.
func TestBodyErrorTexts(t *testing.T) {
	for body, want := range map[string]string{
		"\x08\x01\x00\x01":         "malformed body: no field tag 2 bytes before the end",
		"\x12\x05ab":               "malformed body: field 2 of wire type 2 does not end well",
		"\x80\x80\x80\x80\x10\x00": "malformed body: field number 536870912 is over 536870911",
		"\x12\x01\xff":             "malformed body: field 2 is not UTF-8",
	} {
		if err := new(Login).Unmarshal([]byte(body)); err == nil || err.Error() != want {
			t.Errorf("%x: %q, want %q", body, err, want)
		}
	}
}

func decoders() []interface{ Unmarshal([]byte) error } {
	return []interface{ Unmarshal([]byte) error }{new(Login), new(LoginOK), new(LoginRefused), new(ForcedOffline), new(Redirect)}
}

func TestUnknownFieldsAreSkipped(t *testing.T) {
	var b []byte
	b = protowire.AppendTag(b, 1000, protowire.VarintType)
	b = protowire.AppendVarint(b, 1)
	b = protowire.AppendTag(b, 1001, protowire.BytesType)
	b = protowire.AppendBytes(b, []byte{0xff}) // no UTF-8, and nobody's business
	b = protowire.AppendTag(b, 1002, protowire.StartGroupType)
	b = protowire.AppendTag(b, 1002, protowire.EndGroupType)
	b = append(b, "\x0d\x01\x02\x03\x04"...) // field 1 as fixed32: not the field we know
	for _, m := range decoders() {
		if err := m.Unmarshal(b); err != nil {
			t.Errorf("%T: %v", m, err)
		}
		if v := reflect.ValueOf(m).Elem(); !v.IsZero() {
			t.Errorf("%T took a field from %x: %+v", m, b, m)
		}
	}
}

func TestPlatformOutsideTable(t *testing.T) {
	for v, want := range map[uint64]Platform{
		0: 0, 1: Android, 9: MiniProgram, 10: 0, 256: 0, 257: 0, 1 << 32: 0, 1<<32 + 1: Android, math.MaxUint64: 0,
	} {
		var m Login
		b := protowire.AppendVarint([]byte{4 << 3}, v)
		if err := m.Unmarshal(b); err != nil || m.Platform != want {
			t.Errorf("platform %d: %d, %v, want %d", v, m.Platform, err, want)
		}
	}
	var m Login // the last one counts, also when it is not in the table
	if err := m.Unmarshal([]byte{4 << 3, 1, 4 << 3, 77}); err != nil || m.Platform != 0 {
		t.Errorf("platform 1, then 77: %d, %v", m.Platform, err)
	}
}

func TestKickedLimit(t *testing.T) {
	for _, n := range []int{MaxKicked - 1, MaxKicked, MaxKicked + 1} {
		in := LoginOK{Kicked: make([]KickedInstance, n)}
		for i := range in.Kicked {
			in.Kicked[i].InstID = uint32(i + 1)
		}
		var out LoginOK
		if err := out.Unmarshal(body(t, AppendLoginOK(nil, &in))); err != nil {
			t.Fatal(err)
		}
		if want := in.Kicked[:min(n, MaxKicked)]; !reflect.DeepEqual(out.Kicked, want) {
			t.Errorf("%d kicked: %d sent", n, len(out.Kicked))
		}
		// A sender without our limit: the first ones are kept.
		var b []byte
		for range n {
			b = append(b, 6<<3|2, 2, 2<<3, 5)
		}
		if err := out.Unmarshal(b); err != nil || len(out.Kicked) != min(n, MaxKicked) {
			t.Errorf("%d kicked: %d kept, %v", n, len(out.Kicked), err)
		}
	}
	// Past the limit a bad one is still bad.
	b := bytes.Repeat([]byte{6<<3 | 2, 0}, MaxKicked)
	if err := new(LoginOK).Unmarshal(append(b, 6<<3|2, 1, 0)); !errors.Is(err, errBody) {
		t.Errorf("malformed entry past the limit: %v", err)
	}
}

func TestTextLimits(t *testing.T) {
	for _, tc := range []struct {
		name, in, want string
		max            int
	}{
		{"N-1", strings.Repeat("a", 7), strings.Repeat("a", 7), 8},
		{"N", strings.Repeat("a", 8), strings.Repeat("a", 8), 8},
		{"N+1", strings.Repeat("a", 9), strings.Repeat("a", 8), 8},
		{"a rune that just fits", "aaaaaa\u00e9", "aaaaaa\u00e9", 8},
		{"a rune over the edge", "aaaaaaa\u00e9", "aaaaaaa", 8},
		{"a wide rune over the edge", "aaaaa\U0001f600", "aaaaa", 8},
		{"bad bytes", "a\xff\xfeb", "a\uFFFDb", 8},
		{"half a rune at the end", "aaaaaaa\xc3", "aaaaaaa", 8},
		{"half a rune, with room", "aaaa\xc3", "aaaa\uFFFD", 8},
		{"empty", "", "", 8},
	} {
		if got := CutText(tc.in, tc.max); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
	for _, n := range []int{MaxText - 1, MaxText, MaxText + 1, 1 << 20} {
		in := strings.Repeat("t", n)
		var refused LoginRefused
		if err := refused.Unmarshal(body(t, AppendLoginRefused(nil, &LoginRefused{Text: in}))); err != nil || refused.Text != in[:min(n, MaxText)] {
			t.Errorf("LoginRefused.Text of %d bytes: %d sent, %v", n, len(refused.Text), err)
		}
		var forced ForcedOffline
		if err := forced.Unmarshal(body(t, AppendForcedOffline(nil, &ForcedOffline{Text: in, ByDeviceModel: in}))); err != nil || forced.Text != in[:min(n, MaxText)] || forced.ByDeviceModel != in[:MaxDeviceModel] {
			t.Errorf("ForcedOffline texts of %d bytes: %d and %d sent, %v", n, len(forced.Text), len(forced.ByDeviceModel), err)
		}
	}
	for _, n := range []int{MaxAddress - 1, MaxAddress, MaxAddress + 1} {
		in := strings.Repeat("h", n)
		want := in
		if n > MaxAddress {
			want = "" // half an address is another one
		}
		var m Redirect
		if err := m.Unmarshal(body(t, AppendRedirect(nil, &Redirect{Address: in}))); err != nil || m.Address != want {
			t.Errorf("address of %d bytes: %d sent, %v", n, len(m.Address), err)
		}
	}
}

// Whatever texts a server puts in, the client can decode it.
func FuzzCutText(f *testing.F) {
	f.Add("a\xffb", 3)
	f.Add("\U0001f600", 3)
	f.Fuzz(func(t *testing.T, v string, max int) {
		if max < 0 || max > 1<<16 {
			return
		}
		got := CutText(v, max)
		if len(got) > max || !utf8.ValidString(got) {
			t.Fatalf("CutText(%q, %d) = %q", v, max, got)
		}
		if utf8.ValidString(v) && !strings.HasPrefix(v, got) {
			t.Fatalf("CutText(%q, %d) = %q, not its beginning", v, max, got)
		}
	})
}

func TestLoginCheck(t *testing.T) {
	good := func() Login {
		return Login{SDKAppID: 1, UserID: []byte("u"), UserSig: []byte("s"), Platform: Web, DeviceID: []byte("d")}
	}
	rep := func(n int) []byte { return bytes.Repeat([]byte("x"), n) }
	for _, tc := range []struct {
		name   string
		change func(*Login)
		want   string // part of the error, "" = good
	}{
		{"good", func(*Login) {}, ""},
		{"no app", func(m *Login) { m.SDKAppID = 0 }, "SDKAppID"},
		{"no user", func(m *Login) { m.UserID = nil }, "UserID"},
		{"UserID N-1", func(m *Login) { m.UserID = rep(MaxUserID - 1) }, ""},
		{"UserID N", func(m *Login) { m.UserID = rep(MaxUserID) }, ""},
		{"UserID N+1", func(m *Login) { m.UserID = rep(MaxUserID + 1) }, "UserID"},
		{"UserID 0x1f", func(m *Login) { m.UserID = []byte{0x1f} }, `"\x1f"`},
		{"UserID 0x20", func(m *Login) { m.UserID = []byte{0x20} }, ""},
		{"UserID 0x7e", func(m *Login) { m.UserID = []byte{0x7e} }, ""},
		{"UserID 0x7f", func(m *Login) { m.UserID = []byte{0x7f} }, "UserID"},
		{"no platform", func(m *Login) { m.Platform = 0 }, "platform 0"},
		{"last platform", func(m *Login) { m.Platform = MiniProgram }, ""},
		{"platform 10", func(m *Login) { m.Platform = MiniProgram + 1 }, "platform 10"},
		{"no device", func(m *Login) { m.DeviceID = nil }, "device id"},
		{"device id N", func(m *Login) { m.DeviceID = rep(MaxDeviceID) }, ""},
		{"device id N+1", func(m *Login) { m.DeviceID = rep(MaxDeviceID + 1) }, "device id"},
		{"device id not UTF-8", func(m *Login) { m.DeviceID = []byte{0xff} }, "device id"},
		{"SDK version N", func(m *Login) { m.SDKVersion = rep(MaxSDKVersion) }, ""},
		{"SDK version N+1", func(m *Login) { m.SDKVersion = rep(MaxSDKVersion + 1) }, "SDK version"},
		{"device model N", func(m *Login) { m.DeviceModel = rep(MaxDeviceModel) }, ""},
		{"device model N+1", func(m *Login) { m.DeviceModel = rep(MaxDeviceModel + 1) }, "device model"},
		{"ticket N", func(m *Login) { m.Ticket = rep(MaxTicket) }, ""},
		{"ticket N+1", func(m *Login) { m.Ticket = rep(MaxTicket + 1) }, "ticket"},
		{"UserSig not UTF-8", func(m *Login) { m.UserSig = []byte{0xff} }, "UserSig"},
		{"no UserSig", func(m *Login) { m.UserSig = nil }, ""}, // the server has a code for it
		{"UserSig beside full fields", func(m *Login) { // docs/protocol.md promises 7,700 bytes
			m.UserSig, m.UserID, m.Ticket = rep(7700), rep(MaxUserID), rep(MaxTicket)
			m.DeviceID, m.SDKVersion, m.DeviceModel = rep(MaxDeviceID), rep(MaxSDKVersion), rep(MaxDeviceModel)
		}, ""},
		{"UserSig over the frame", func(m *Login) { m.UserSig = rep(MaxFrameBeforeLogin) }, "UserSig"},
		{"UserSig over any frame", func(m *Login) { m.UserSig = rep(MaxFrame) }, "UserSig"},
	} {
		m := good()
		tc.change(&m)
		err := m.Check()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	m := good() // the frame limit, to the byte
	m.UserSig = nil
	m.UserSig = rep(MaxFrameBeforeLogin - len(AppendLogin(nil, &m)) - 3)
	if n := len(AppendLogin(nil, &m)); n != MaxFrameBeforeLogin || m.Check() != nil {
		t.Errorf("frame of %d bytes: %v", n, m.Check())
	}
	m.UserSig = append(m.UserSig, 'x')
	if err := m.Check(); err == nil {
		t.Errorf("frame of %d bytes is good", len(AppendLogin(nil, &m)))
	}
}

func TestAllocs(t *testing.T) {
	buf := make([]byte, 0, 4096)
	login := Login{
		SDKAppID: 1400000000, UserID: []byte("alice"), UserSig: bytes.Repeat([]byte("s"), 211), Platform: Android,
		DeviceID: bytes.Repeat([]byte("d"), 36), SDKVersion: []byte("1.0.0"), DeviceModel: []byte("Pixel 9"), Ticket: []byte("t"),
	}
	loginFrame := AppendLogin(nil, &login)
	heartbeat := AppendEmpty(nil, TypeHeartbeat)
	ok := LoginOK{InstID: 1, Ticket: []byte("t"), ServerTimeMS: 1, Kicked: []KickedInstance{{Web, 1}}}
	okFrame := AppendLoginOK(nil, &LoginOK{InstID: 1, Ticket: []byte("t"), ServerTimeMS: 1})
	refused := LoginRefused{Code: CodeSigExpired, Text: "expired"}
	for _, tc := range []struct {
		name string
		f    func()
	}{
		{"encode heartbeat", func() { buf = AppendEmpty(buf[:0], TypeHeartbeat) }},
		{"decode heartbeat", func() { mustNext(t, heartbeat) }},
		{"encode login", func() { buf = AppendLogin(buf[:0], &login) }},
		{"decode login", func() {
			var m Login
			if err := m.Unmarshal(mustNext(t, loginFrame).Body); err != nil {
				t.Fatal(err)
			}
		}},
		{"encode LoginOK", func() { buf = AppendLoginOK(buf[:0], &ok) }},
		{"decode LoginOK", func() {
			var m LoginOK
			if err := m.Unmarshal(mustNext(t, okFrame).Body); err != nil {
				t.Fatal(err)
			}
		}},
		{"encode LoginRefused", func() { buf = AppendLoginRefused(buf[:0], &refused) }},
	} {
		if n := testing.AllocsPerRun(100, tc.f); n != 0 {
			t.Errorf("%s: %v allocations", tc.name, n)
		}
	}
}

func mustNext(t testing.TB, b []byte) Frame {
	f, n, err := Next(b, MaxFrame)
	if err != nil || n != len(b) {
		t.Fatalf("took %d of %d bytes: %v", n, len(b), err)
	}
	return f
}

func BenchmarkHeartbeat(b *testing.B) {
	buf := make([]byte, 0, HeaderSize)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendEmpty(buf[:0], TypeHeartbeat)
		mustNext(b, buf)
	}
}

func BenchmarkDecodeLogin(b *testing.B) {
	frame := AppendLogin(nil, &Login{
		SDKAppID: 1400000000, UserID: []byte("user-00000000001"), UserSig: bytes.Repeat([]byte("s"), 211), Platform: Android,
		DeviceID: bytes.Repeat([]byte("d"), 36), SDKVersion: []byte("1.0.0"), DeviceModel: []byte("Pixel 9"),
	})
	b.ReportAllocs()
	for b.Loop() {
		var m Login
		if err := m.Unmarshal(mustNext(b, frame).Body); err != nil {
			b.Fatal(err)
		}
	}
}
