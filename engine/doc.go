// Package engine accepts clients, speaks the native protocol with them and keeps
// their links: login, heartbeat, logout, forced offline, silence time-out.
//
// A reactor of one event loop per core (gnet, named in reactor.go only) moves
// bytes. Each loop owns its sessions, a timing wheel and a queue through which
// answers of the Directory come back. The rules of a session are a state machine
// (rules.go) that reads no clock and no socket. Presence is reached only through
// directory.Directory, and no loop ever waits for it.
package engine
