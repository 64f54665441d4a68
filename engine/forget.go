package engine

import (
	"net"
	"reflect"
	"unsafe"

	"golang.org/x/sys/unix"
)

// addressFields are where the reactor's connections keep their client's address:
// twice, as the system told it and as net.Addr, 80 bytes in two objects. We do
// not ask again once the login has taken the address to the presence table; a
// million idle links would hold 80 MB of it. gnet has no way to let go, so we
// clear the two fields ourselves.
//
// What gnet v2.10.0 does with them on an accepted stream: RemoteAddr returns the
// second, and conn.release, at the end, sets both to nil. Before that it puts the
// bytes of an IPv6 zone back into a pool; without the address they are garbage.
// All else that reads remote is for datagrams.
//
// The offsets come from reflection, not from a copy of the struct: a gnet whose
// fields have other names or types keeps its addresses, and TestForgetAddr says so.
type addressFields struct {
	known          bool
	sockaddr, addr uintptr // offsets
}

// addressFieldsOf looks for the fields in a connection, a pointer to a struct.
func addressFieldsOf(conn any) (f addressFields) {
	t := reflect.TypeOf(conn)
	if t == nil || t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		return f
	}
	sockaddr, ok1 := t.Elem().FieldByName("remote")
	addr, ok2 := t.Elem().FieldByName("remoteAddr")
	f.known = ok1 && ok2 && len(sockaddr.Index) == 1 && len(addr.Index) == 1 &&
		sockaddr.Type == reflect.TypeFor[unix.Sockaddr]() && addr.Type == reflect.TypeFor[net.Addr]()
	f.sockaddr, f.addr = sockaddr.Offset, addr.Offset
	return f
}

// forget clears the address of a connection of the type that f was made of. It
// runs on the connection's loop, as all that reads the fields does.
func (f addressFields) forget(conn any) {
	if !f.known {
		return
	}
	p := reflect.ValueOf(conn).UnsafePointer()
	*(*unix.Sockaddr)(unsafe.Add(p, f.sockaddr)) = nil
	*(*net.Addr)(unsafe.Add(p, f.addr)) = nil
}
