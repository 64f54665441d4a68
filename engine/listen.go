package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// Two servers can bind one SO_REUSEPORT port, and the kernel then deals the
// clients out to both. Nobody wants that, so the address is bound exclusively
// first, which fails if anybody listens there. Between that and the listening of
// our loops is a moment in which a second server's probe succeeds too; a lock
// per port, held until we listen, closes it. Any user of the machine can hold
// that lock, so it is a hint: after a wait the probe alone decides.

// resolve turns an address setting into what to bind: no host means 0.0.0.0,
// never the unspecified family, under which gnet gives every connection to one
// loop; a name is looked up, IPv4 first.
func resolve(address string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("engine: address %q: %w", address, err)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	tcp, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("engine: address %q: %w", address, err)
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// network is the address's family in net's words.
func network(a netip.AddrPort) string {
	if a.Addr().Is4() {
		return "tcp4"
	}
	return "tcp6"
}

// probe binds all of want without SO_REUSEPORT and lets them go again. The result
// has the ports that were bound: gnet must not see port 0, each loop would take
// another.
func probe(want []netip.AddrPort) (bound []netip.AddrPort, err error) {
	for _, a := range want {
		ln, err := net.Listen(network(a), a.String())
		if err != nil {
			return nil, fmt.Errorf("engine: cannot listen on %s: %w", a, err)
		}
		defer ln.Close() //nolint:errcheck // if it is not released, gnet says so
		port := ln.Addr().(*net.TCPAddr).AddrPort().Port()
		bound = append(bound, netip.AddrPortFrom(a.Addr(), port))
	}
	return bound, nil
}

const (
	bindLockWait = 2 * time.Second
	bindLockPoll = 20 * time.Millisecond
)

// lockBind waits for the right to probe and bind the port, for a while. It is an
// abstract Unix socket, which the kernel gives back even if we are killed. A port
// 0 needs none.
func lockBind(ctx context.Context, port uint16, log *slog.Logger) (unlock func()) {
	if port == 0 {
		return func() {}
	}
	ctx, cancel := context.WithTimeout(ctx, bindLockWait)
	defer cancel()
	name := "@rollcall-bind-" + strconv.Itoa(int(port))
	for {
		ln, err := net.Listen("unix", name)
		if err == nil {
			return func() { _ = ln.Close() }
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return func() {} // no such sockets here: the probe must do
		}
		select {
		case <-ctx.Done():
			log.Warn("another process holds the lock for starting on this port; starting without it", "port", port, "lock", name, "waited", bindLockWait.String())
			return func() {}
		case <-time.After(bindLockPoll):
		}
	}
}
