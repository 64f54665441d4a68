package directory

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// Bounds of the words that an app holds.
const (
	MaxAppName = 64 // bytes
	MinSecret  = 16 // bytes of a key
	MaxSecret  = 256
)

// ValidateName says what is wrong with the name of an app.
func ValidateName(name string) error {
	if len(name) > MaxAppName || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("name %q: want at most %d bytes of printable text", name, MaxAppName)
	}
	return nil
}

// ValidateAdministrators says what is wrong with the administrators of an app.
func ValidateAdministrators(ids []string) error {
	if len(ids) == 0 || len(ids) > MaxAdministrators {
		return fmt.Errorf("administrators: got %d, want 1 to %d", len(ids), MaxAdministrators)
	}
	for i, id := range ids {
		if !presence.ValidUserID(id) {
			return fmt.Errorf("administrators: %q is not a valid UserID", id)
		}
		if slices.Contains(ids[:i], id) {
			return fmt.Errorf("administrators: %q stands there twice", id)
		}
	}
	return nil
}

// ValidateSecret says what is wrong with a key, token or the like of low to high
// bytes. The error shows none of it.
func ValidateSecret(secret string, low, high int) error {
	if len(secret) < low || len(secret) > high || !printable(secret) {
		return fmt.Errorf("has %d bytes, want %d to %d printable ASCII characters without spaces", len(secret), low, high)
	}
	return nil
}

// printable reports whether all of s is ASCII that can be seen.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return false
		}
	}
	return true
}
