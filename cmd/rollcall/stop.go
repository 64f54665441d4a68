package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rollcall-im/rollcall/internal/api"
	"github.com/rollcall-im/rollcall/internal/buildinfo"
)

// addr returns what a listener was bound to, "" if it is off.
func (n *node) addr(name string) string {
	if a := n.engine.Addr(name); a != "" {
		return a
	}
	return n.api.Addr(name)
}

// nodes is what the console shows of this node.
func (n *node) nodes(number uint32) []api.NodeInfo {
	s := n.engine.Stats()
	return []api.NodeInfo{{
		Node: number, Version: buildinfo.Version, StartedMS: n.started.UnixMilli(), Loops: s.Loops, Links: s.Links,
	}}
}

// errStopping and errStarting are what /readyz says.
var (
	errStopping = errors.New("the server is stopping")
	errStarting = errors.New("the server is starting")
)

// ready is the state behind /readyz.
func (n *node) ready() error {
	switch n.state.Load() {
	case stateReady:
		return n.readOnly()
	case stateStopping:
		return errStopping
	}
	return errStarting
}

// readOnly says why the store takes no writes, nil if it does. Links and
// queries go on; a balancer should send new logins elsewhere.
func (n *node) readOnly() error {
	if n.store == nil {
		return nil
	}
	if h := n.store.Health(); h.ReadOnly {
		return fmt.Errorf("read-only: %s", h.Reason)
	}
	return nil
}

// backup returns what copies the store; nil without one.
func (n *node) backup() func(dir string) error {
	if n.store == nil {
		return nil
	}
	return func(dir string) error { return backup(n.store, dir) }
}

// live is what /livez says beside that the process lives.
func (n *node) live() string {
	if err := n.readOnly(); err != nil {
		return err.Error()
	}
	return ""
}

// stop ends all parts that were started, in reverse order: clients are told to
// come back later, requests are answered, webhooks in flight are waited for.
func (n *node) stop(timeout time.Duration) error {
	n.state.Store(stateStopping)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var errs []error
	if n.engine != nil {
		errs = append(errs, n.engine.Shutdown(ctx))
	}
	if n.refusals != nil {
		n.refusals.close()
	}
	if n.memory != nil {
		n.memory.close()
	}
	if n.api != nil {
		errs = append(errs, n.api.Shutdown(ctx))
	}
	if n.dir != nil {
		errs = append(errs, n.dir.Close())
	}
	if n.webhook != nil {
		errs = append(errs, n.webhook.Close(ctx))
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	return errors.Join(errs...)
}
