package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// startTimeout is how long a server may take until it says where it listens.
const startTimeout = time.Minute

// Listening waits for the first line that a server prints and returns the
// addresses in it by the names of the listeners: "native=127.0.0.1:7700" and so
// on. There are none if the server ended before. What the server prints later is
// read and dropped, and out closed when that ends.
func Listening(ctx context.Context, out io.ReadCloser) (map[string]string, error) {
	line := make(chan string, 1)
	go func() {
		defer out.Close()
		r := bufio.NewReader(out)
		text, _ := r.ReadString('\n')
		line <- text
		_, _ = io.Copy(io.Discard, r)
	}()
	late := time.NewTimer(startTimeout)
	defer late.Stop()
	select {
	case text := <-line:
		addrs := map[string]string{}
		for _, word := range strings.Fields(text) {
			if name, addr, ok := strings.Cut(word, "="); ok {
				addrs[name] = addr
			}
		}
		return addrs, nil
	case <-late.C:
		return nil, fmt.Errorf("the server was not ready after %v", startTimeout)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
