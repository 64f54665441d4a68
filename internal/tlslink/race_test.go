//go:build race

package tlslink

func init() { raceEnabled = true }
