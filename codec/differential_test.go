package codec

import (
	"bytes"
	"reflect"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/rollcall-im/rollcall/codec/rollcallpb"
)

// A pair is a message of ours beside the generated one.
type pair struct {
	name string
	ours func() message
	pb   func() proto.Message
	// want is the generated message in our form.
	want func(proto.Message) message
	// frame appends ours.
	frame func(message) []byte
}

type message interface{ Unmarshal([]byte) error }

var pairs = []pair{
	{
		"Login", func() message { return new(Login) }, func() proto.Message { return new(rollcallpb.Login) },
		func(m proto.Message) message {
			p := m.(*rollcallpb.Login)
			return &Login{
				SDKAppID: p.SdkAppId, UserID: []byte(p.UserId), UserSig: []byte(p.UserSig), Platform: platformOf(p.Platform),
				DeviceID: []byte(p.DeviceId), SDKVersion: []byte(p.SdkVersion), DeviceModel: []byte(p.DeviceModel), Resume: p.Resume, Ticket: p.Ticket,
			}
		},
		func(m message) []byte { return AppendLogin(nil, m.(*Login)) },
	},
	{
		"LoginOK", func() message { return new(LoginOK) }, func() proto.Message { return new(rollcallpb.LoginOK) },
		func(m proto.Message) message {
			p := m.(*rollcallpb.LoginOK)
			ok := &LoginOK{
				InstID: p.InstId, Ticket: p.Ticket, ServerTimeMS: p.ServerTimeMs, HeartbeatIntervalMS: p.HeartbeatIntervalMs,
				SilenceTimeoutMS: p.SilenceTimeoutMs, TakenBack: p.TakenBack,
			}
			for _, k := range p.Kicked[:min(len(p.Kicked), MaxKicked)] {
				ok.Kicked = append(ok.Kicked, KickedInstance{platformOf(k.GetPlatform()), k.GetInstId()})
			}
			return ok
		},
		func(m message) []byte { return AppendLoginOK(nil, m.(*LoginOK)) },
	},
	{
		"LoginRefused", func() message { return new(LoginRefused) }, func() proto.Message { return new(rollcallpb.LoginRefused) },
		func(m proto.Message) message {
			p := m.(*rollcallpb.LoginRefused)
			return &LoginRefused{Code: Code(p.Code), Text: p.Text, RetryAfterMS: p.RetryAfterMs, MayReconnect: p.MayReconnect}
		},
		func(m message) []byte { return AppendLoginRefused(nil, m.(*LoginRefused)) },
	},
	{
		"ForcedOffline", func() message { return new(ForcedOffline) }, func() proto.Message { return new(rollcallpb.ForcedOffline) },
		func(m proto.Message) message {
			p := m.(*rollcallpb.ForcedOffline)
			return &ForcedOffline{
				Code: Code(p.Code), Text: p.Text, ByPlatform: platformOf(p.ByPlatform), ByDeviceModel: p.ByDeviceModel,
				TimeMS: p.TimeMs, MayReconnect: p.MayReconnect, RetryAfterMS: p.RetryAfterMs,
			}
		},
		func(m message) []byte { return AppendForcedOffline(nil, m.(*ForcedOffline)) },
	},
	{
		"Redirect", func() message { return new(Redirect) }, func() proto.Message { return new(rollcallpb.Redirect) },
		func(m proto.Message) message {
			p := m.(*rollcallpb.Redirect)
			return &Redirect{Address: p.Address, RetryAfterMS: p.RetryAfterMs}
		},
		func(m message) []byte { return AppendRedirect(nil, m.(*Redirect)) },
	},
}

// platformOf is the one difference: numbers outside the table are 0 with us.
func platformOf(p rollcallpb.Platform) Platform {
	if p < 0 || int(p) >= len(platformNames) {
		return 0
	}
	return Platform(p)
}

// compare decodes body with both and compares what they say.
func compare(t testing.TB, p pair, body []byte) {
	t.Helper()
	ours, pb := p.ours(), p.pb()
	err, pbErr := ours.Unmarshal(body), proto.Unmarshal(body, pb)
	if (err == nil) != (pbErr == nil) {
		t.Fatalf("%s %x: we say %v, the generated code says %v", p.name, body, err, pbErr)
	}
	if err != nil {
		return
	}
	want := p.want(pb)
	if !equal(ours, want) {
		t.Fatalf("%s %x: we read %+v, the generated code reads %+v", p.name, body, ours, want)
	}
	again := p.ours()
	if err := again.Unmarshal(bodyOf(t, p.frame(ours))); err != nil || !equalSent(again, ours) {
		t.Fatalf("%s: %+v encodes and decodes as %+v, %v", p.name, ours, again, err)
	}
}

func bodyOf(t testing.TB, frame []byte) []byte { return mustNext(t, frame).Body }

// equal compares two messages of ours; an empty slice equals none.
func equal(a, b message) bool {
	return reflect.DeepEqual(normal(a), normal(b))
}

// equalSent is equal but for what a sender cuts.
func equalSent(sent, from message) bool {
	c := normal(from)
	switch m := c.(type) {
	case *LoginRefused:
		m.Text = CutText(m.Text, MaxText)
	case *ForcedOffline:
		m.Text, m.ByDeviceModel = CutText(m.Text, MaxText), CutText(m.ByDeviceModel, MaxDeviceModel)
	case *Redirect:
		if len(m.Address) > MaxAddress {
			m.Address = ""
		}
	}
	return reflect.DeepEqual(normal(sent), c)
}

// normal returns a copy of m with nil for its empty slices.
func normal(m message) message {
	c := reflect.New(reflect.TypeOf(m).Elem())
	c.Elem().Set(reflect.ValueOf(m).Elem())
	for i := range c.Elem().NumField() {
		if f := c.Elem().Field(i); f.Kind() == reflect.Slice && f.Len() == 0 {
			f.SetZero()
		}
	}
	return c.Interface().(message)
}

// What the generated code writes, we read.
func TestReadsGenerated(t *testing.T) {
	for _, p := range pairs {
		t.Run(p.name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				pb := p.pb()
				fill(rt, reflect.ValueOf(pb).Elem())
				b, err := proto.Marshal(pb)
				if err != nil {
					rt.Fatal(err)
				}
				compare(t, p, b)
			})
		})
	}
}

// What we write, the generated code reads, and would have written the same.
func TestWritesAsGenerated(t *testing.T) {
	for _, p := range pairs {
		t.Run(p.name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				ours := p.ours()
				fill(rt, reflect.ValueOf(ours).Elem())
				got := bodyOf(t, p.frame(ours))
				pb := p.pb()
				if err := proto.Unmarshal(got, pb); err != nil {
					rt.Fatalf("%+v: %v", ours, err)
				}
				if !equal(p.want(pb), ours) {
					rt.Fatalf("we wrote %+v, the generated code reads %+v", ours, pb)
				}
				want, err := proto.MarshalOptions{Deterministic: true}.Marshal(pb)
				if err != nil || !bytes.Equal(got, want) {
					rt.Fatalf("%+v: we write %x, the generated code %x, %v", ours, got, want, err)
				}
			})
		})
	}
}

// fill sets the exported fields of v, a message, to something.
func fill(t *rapid.T, v reflect.Value) {
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		if !f.CanSet() || rapid.Bool().Draw(t, "skip "+name) {
			continue
		}
		switch {
		case f.Type() == reflect.TypeFor[[]byte]():
			f.SetBytes([]byte(rapid.StringN(0, 40, 60).Draw(t, name)))
		case f.Type() == reflect.TypeFor[rollcallpb.Platform]():
			f.SetInt(int64(rapid.Int32Range(-1, 12).Draw(t, name)))
		case f.Type() == reflect.TypeFor[Platform]():
			f.SetUint(uint64(rapid.SampledFrom(Platforms()).Draw(t, name)))
		case f.Type() == reflect.TypeFor[[]KickedInstance]():
			for range rapid.IntRange(1, 4).Draw(t, name) {
				var k KickedInstance
				fill(t, reflect.ValueOf(&k).Elem())
				f.Set(reflect.Append(f, reflect.ValueOf(k)))
			}
		case f.Type() == reflect.TypeFor[[]*rollcallpb.KickedInstance]():
			for range rapid.IntRange(1, 4).Draw(t, name) {
				k := new(rollcallpb.KickedInstance)
				fill(t, reflect.ValueOf(k).Elem())
				f.Set(reflect.Append(f, reflect.ValueOf(k)))
			}
		case f.Kind() == reflect.Uint32:
			f.SetUint(uint64(rapid.Uint32().Draw(t, name)))
		case f.Kind() == reflect.Int64:
			f.SetInt(rapid.Int64().Draw(t, name))
		case f.Kind() == reflect.Bool:
			f.SetBool(rapid.Bool().Draw(t, name))
		case f.Kind() == reflect.String:
			f.SetString(rapid.StringN(0, 40, 60).Draw(t, name))
		default:
			t.Fatalf("field %s of type %v is not filled", name, f.Type())
		}
	}
}

// Every field number that exists and one that does not, with every wire type,
// good and cut: accepted and read alike.
func TestEveryWireType(t *testing.T) {
	values := map[protowire.Type][]string{
		protowire.VarintType:     {"", "\x00", "\x01", "\x7f", "\x80", "\x80\x01", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"},
		protowire.Fixed64Type:    {"", "1234567", "12345678"},
		protowire.BytesType:      {"", "\x00", "\x01", "\x01a", "\x01\xff", "\x02\xc3\xa9", "\x02\x08\x01", "\x02\x08", "\x03\x08\x80\x01", "\x02\x0c\x01"},
		protowire.StartGroupType: {"", "\x08\x01"},
		protowire.EndGroupType:   {""},
		protowire.Fixed32Type:    {"", "123", "1234"},
		6:                        {"", "1"},
		7:                        {"", "1"},
	}
	for _, p := range pairs {
		fields := p.pb().ProtoReflect().Descriptor().Fields().Len()
		for num := protowire.Number(1); int(num) <= fields+1; num++ {
			for wire, vs := range values {
				for _, v := range vs {
					b := append(protowire.AppendTag(nil, num, wire), v...)
					compare(t, p, b)
					compare(t, p, append(b, 0x08, 0x05)) // and another field behind it
					compare(t, p, append(b, b...))       // and twice
					compare(t, p, protowire.AppendTag(b, num, protowire.EndGroupType))
				}
			}
		}
	}
}

func fuzzPair(f *testing.F, name string) {
	var p pair
	for _, p = range pairs {
		if p.name == name {
			break
		}
	}
	for _, frame := range goodFrames() {
		if len(frame) < 4096 {
			f.Add(frame[HeaderSize:])
		}
	}
	f.Add([]byte("\x0a\x01\xff"))
	f.Add([]byte("\x32\x04\x08\x81\x80\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > MaxBody {
			return
		}
		compare(t, p, body)
	})
}

func FuzzLogin(f *testing.F)         { fuzzPair(f, "Login") }
func FuzzLoginOK(f *testing.F)       { fuzzPair(f, "LoginOK") }
func FuzzLoginRefused(f *testing.F)  { fuzzPair(f, "LoginRefused") }
func FuzzForcedOffline(f *testing.F) { fuzzPair(f, "ForcedOffline") }
func FuzzRedirect(f *testing.F)      { fuzzPair(f, "Redirect") }
