package presence

// Platform is a row of the platform table. The zero value names no platform.
type Platform uint8

// The platforms, in table order. The numbers are those of the wire protocol
// (codec/rollcall.proto) and of stored records: append, never renumber.
const (
	Android Platform = 1 + iota
	IPhone
	IPad
	HarmonyOS
	Windows
	Mac
	Linux
	Web
	MiniProgram
	platformEnd
)

// NumPlatforms is the number of rows in the platform table.
const NumPlatforms = int(platformEnd) - 1

// Class groups platforms that share time-outs.
type Class uint8

// The classes.
const (
	Mobile Class = 1 + iota
	Desktop
	WebClass
	classEnd
)

// NumClasses is the number of platform classes.
const NumClasses = int(classEnd) - 1

// platformRow is one row of the platform table: all that differs between
// platforms stands here and nowhere else. Spellings that public texts do not
// settle are choices; they are made in this table only.
type platformRow struct {
	name       string   // our own word: API of the console, bench, logs
	class      Class    // time-outs come by class
	push       bool     // a lost link leaves PushOnline (Mac: see Settings.MacPushOnline)
	lostLink   Reason   // the reason told when silence closes the link
	slot       Platform // what policy and limits speak of
	query      string   // Detail.Platform in querystate (iPhone: see Settings.QueryIPhoneName)
	webhook    string   // OptPlatform in the webhook URL
	kickedName string   // KickedDevice.Platform in the webhook body
}

var platforms = [platformEnd]platformRow{
	Android:     {"Android", Mobile, true, ReasonTimeOut, Android, "Android", "Android", "Android"},
	IPhone:      {"iPhone", Mobile, true, ReasonTimeOut, IPhone, "iPhone", "IOS", "iOS"},
	IPad:        {"iPad", Mobile, true, ReasonTimeOut, IPad, "iPad", "iPad", "iPad"},
	HarmonyOS:   {"HarmonyOS", Mobile, true, ReasonTimeOut, HarmonyOS, "HarmonyOS", "HarmonyOS", "HarmonyOS"},
	Windows:     {"Windows", Desktop, false, ReasonTimeOut, Windows, "PC", "Windows", "Windows"},
	Mac:         {"Mac", Desktop, false, ReasonTimeOut, Mac, "Mac", "Mac", "Mac"},
	Linux:       {"Linux", Desktop, false, ReasonTimeOut, Linux, "Linux", "Linux", "Linux"},
	Web:         {"Web", WebClass, false, ReasonLinkClose, Web, "Web", "Web", "Web"},
	MiniProgram: {"MiniProgram", WebClass, false, ReasonLinkClose, Web, "Web", "Web", "Web"},
}

// Valid reports whether p names a row of the table.
func (p Platform) Valid() bool { return p > 0 && p < platformEnd }

// String returns our own name of the platform, "unknown" if there is none.
func (p Platform) String() string {
	if !p.Valid() {
		return "unknown"
	}
	return platforms[p].name
}

// Class returns the platform's class; 0 for an unknown platform.
func (p Platform) Class() Class {
	if !p.Valid() {
		return 0
	}
	return platforms[p].class
}

// Slot returns the slot platform: the platform itself, Web for MiniProgram.
func (p Platform) Slot() Platform {
	if !p.Valid() {
		return 0
	}
	return platforms[p].slot
}

// QueryName is the value of Detail.Platform in query_online_status.
func (p Platform) QueryName() string { return p.row().query }

// WebhookName is the value of OptPlatform in the webhook URL.
func (p Platform) WebhookName() string { return p.row().webhook }

// KickedName is the value of KickedDevice.Platform in the webhook body.
func (p Platform) KickedName() string { return p.row().kickedName }

// SilenceReason is the reason of the Disconnect that a silence time-out causes.
func (p Platform) SilenceReason() Reason { return p.row().lostLink }

func (p Platform) row() platformRow {
	if !p.Valid() {
		return platformRow{}
	}
	return platforms[p]
}

// slotPlatforms yields the platforms that policy and limits speak of.
func slotPlatforms(yield func(Platform) bool) {
	for p := Platform(1); p < platformEnd; p++ {
		if p.Slot() == p && !yield(p) {
			return
		}
	}
}

// ParsePlatform returns the platform with our own name s, compared byte for byte.
func ParsePlatform(s string) (Platform, bool) {
	for p := Platform(1); p < platformEnd; p++ {
		if platforms[p].name == s {
			return p, true
		}
	}
	return 0, false
}

// String returns the class name that the console API uses.
func (c Class) String() string {
	switch c {
	case Mobile:
		return "mobile"
	case Desktop:
		return "desktop"
	case WebClass:
		return "web"
	}
	return "unknown"
}
