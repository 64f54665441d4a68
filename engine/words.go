package engine

// words turns bytes into strings and hands out the same string for the same
// bytes: a node sees a few hundred SDK versions and device models, on millions
// of devices. It is not for values that differ from client to client.
type words struct {
	m map[string]string
}

// maxWords bounds the table, to about 1.5 MB a loop. There are some thousand
// models on a market; full of words that nobody repeats, it starts over.
const maxWords = 8192

func (w *words) word(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if s, ok := w.m[string(b)]; ok {
		return s
	}
	if w.m == nil || len(w.m) >= maxWords {
		w.m = make(map[string]string)
	}
	s := string(b)
	w.m[s] = s
	return s
}
