package presence

// Groups assigns each slot platform to an exclusive group: platforms with the
// same number exclude each other. Index 0 is unused; MiniProgram's entry is not
// read (its slot platform is Web).
type Groups [platformEnd]uint8

// Limits is the number of instances allowed per slot platform; 0 means the default, 1.
type Limits [platformEnd]uint8

// Policy is an app's login policy: which platforms exclude each other, and how
// many instances each may have.
type Policy struct {
	Preset string // single, dual, triple, multi, custom; "" is single
	Groups Groups
	Limits Limits
}
