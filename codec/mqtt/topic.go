package mqtt

import "strings"

// Topics: presence/<UserID>, with the characters of the UserID that mean something
// in a topic or filter (/ + # and % itself) percent-encoded, says who is where of
// a user. presence/self is where a client would set its custom status.
const (
	TopicPrefix = "presence/"
	TopicSelf   = TopicPrefix + "self"
)

var topicEscaper = strings.NewReplacer("/", "%2F", "+", "%2B", "#", "%23", "%", "%25")

// Topic is the topic of a user's presence.
func Topic(userID string) string { return TopicPrefix + topicEscaper.Replace(userID) }

// TopicUser returns the user whose presence the topic is; ok is false if it is no
// topic of a user's. Each character may be percent-encoded: what a client subscribes
// to is published under the very name that it used [MQTT-3.3.2-3].
func TopicUser(topic string) (userID string, ok bool) {
	name, ok := strings.CutPrefix(topic, TopicPrefix)
	if !ok || name == "" || strings.ContainsAny(name, "/+#") {
		return "", false
	}
	if strings.IndexByte(name, '%') < 0 {
		return name, validUserID([]byte(name))
	}
	id := make([]byte, 0, len(name))
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c == '%' {
			if i+2 >= len(name) || !isHex(name[i+1]) || !isHex(name[i+2]) {
				return "", false
			}
			c = unhex(name[i+1])<<4 | unhex(name[i+2])
			i += 2
		}
		id = append(id, c)
	}
	return string(id), validUserID(id)
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
