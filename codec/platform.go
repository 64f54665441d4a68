package codec

// Platform is the wire number of a platform: the enum of rollcall.proto.
type Platform uint8

// The platforms.
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
)

var platformNames = [...]string{
	Android: "Android", IPhone: "iPhone", IPad: "iPad", HarmonyOS: "HarmonyOS",
	Windows: "Windows", Mac: "Mac", Linux: "Linux", Web: "Web", MiniProgram: "MiniProgram",
}

// Platforms lists all platforms in table order.
func Platforms() []Platform {
	var all []Platform
	for p := Android; int(p) < len(platformNames); p++ {
		all = append(all, p)
	}
	return all
}

// Known reports whether the platform is in the table.
func (p Platform) Known() bool { return p > 0 && int(p) < len(platformNames) }

// String returns the platform's name, "unknown" if there is none.
func (p Platform) String() string {
	if !p.Known() {
		return "unknown"
	}
	return platformNames[p]
}

// ParsePlatform returns the platform of that name, compared byte for byte.
func ParsePlatform(s string) (Platform, bool) {
	for p := Android; p.Known(); p++ {
		if platformNames[p] == s {
			return p, true
		}
	}
	return 0, false
}
