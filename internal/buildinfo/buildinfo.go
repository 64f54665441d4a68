// Package buildinfo tells what was built.
package buildinfo

import "runtime/debug"

// Version is set by the linker (make build); "dev" otherwise.
var Version = "dev"

// Commit returns the commit of the build, "" if it is not known.
func Commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
