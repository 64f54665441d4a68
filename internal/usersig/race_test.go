//go:build race

package usersig

func init() { raceEnabled = true }
