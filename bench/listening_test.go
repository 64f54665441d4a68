package bench

import (
	"context"
	"io"
	"maps"
	"testing"
)

func TestListening(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"": {},
		"rollcall 1.0 native=127.0.0.1:7700 native-tls=[::1]:8700 api=:7780\nmore\n": {"native": "127.0.0.1:7700", "native-tls": "[::1]:8700", "api": ":7780"},
	} {
		r, w := io.Pipe()
		go func() {
			_, _ = io.WriteString(w, text)
			w.Close()
		}()
		got, err := Listening(context.Background(), r)
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	r, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Listening(ctx, r); err != context.Canceled {
		t.Errorf("a wait that is given up: %v", err)
	}
}
