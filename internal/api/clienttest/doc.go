// Package clienttest lets an unmodified public client of the cloud's REST API
// call Rollcall. It is a module of its own, so that the client is no dependency
// of the product: `make test-client`, or `go test ./...` in this directory.
package clienttest
