package admission

// Ceiling tells when memory is too full for new links. It is full from the
// ceiling on and stays so until a twentieth of it is free: at the edge, links
// should not be let in and refused by turns. The zero value never is.
type Ceiling struct {
	bytes int64
	full  bool
}

// NewCeiling returns a ceiling of so many bytes; 0 is none.
func NewCeiling(bytes int64) Ceiling { return Ceiling{bytes: bytes} }

// Full takes a measurement and reports whether new links are to be refused.
func (c *Ceiling) Full(used int64) bool {
	switch {
	case c.bytes <= 0:
		c.full = false
	case used >= c.bytes:
		c.full = true
	case used < c.bytes-c.bytes/20:
		c.full = false
	}
	return c.full
}
