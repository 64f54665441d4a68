package main

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test be the server of a peer, as the program is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		main()
		return
	}
	os.Exit(m.Run())
}

// closer says yes to a byte; after a while it closes the links whose byte was a 1.
var closer = &peer{
	name: "closer",
	serve: func(addr string) error {
		ln, err := net.Listen("tcp4", addr)
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					b := make([]byte, 1)
					if _, err := io.ReadFull(c, b); err != nil {
						return
					}
					_, _ = c.Write(append(b, "more that nobody reads"...))
					if b[0] == 1 {
						time.Sleep(50 * time.Millisecond)
						c.Close()
					}
				}()
			}
		}()
		return nil
	},
}

func init() { peers = append(peers, closer) }

// TestLinksGone: memory of links that the server has closed is no figure.
func TestLinksGone(t *testing.T) {
	r := run{low: 5, high: 20, rounds: 1, settle: 200 * time.Millisecond}
	login := func(closed func(i int) bool) {
		closer.login = func(c net.Conn, i int) error {
			b := []byte{0}
			if closed(i) {
				b[0] = 1
			}
			if _, err := c.Write(b); err != nil {
				return err
			}
			_, err := io.ReadFull(c, b)
			return err
		}
	}
	login(func(int) bool { return false })
	if _, err := r.one(closer); err != nil {
		t.Errorf("all links live: %v", err)
	}
	login(func(i int) bool { return i%10 == 3 })
	if _, err := r.one(closer); err == nil || !strings.Contains(err.Error(), "2 of 20 links") {
		t.Errorf("two links were closed: %v", err)
	}
}
