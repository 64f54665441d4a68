package usersig

import (
	"bytes"
	"compress/zlib"
	"io"
)

// inflater undoes zlib (RFC 1950) into memory of the caller, with state that is
// used again.
type inflater struct {
	src bytes.Reader
	z   io.ReadCloser
}

// inflate writes what the zlib stream in src holds to dst and returns its
// length. src must be one whole stream, checksum included, and nothing more; what
// does not leave one byte of dst free is errLarge.
func (f *inflater) inflate(dst, src []byte) (int, error) {
	f.src.Reset(src)
	if err := f.reset(); err != nil {
		return 0, errZlib
	}
	n := 0
	for n < len(dst) {
		m, err := f.z.Read(dst[n:])
		n += m
		switch {
		case err == io.EOF && n < len(dst) && f.src.Len() == 0:
			return n, nil
		case err == io.EOF && n < len(dst), err != nil && err != io.EOF:
			return 0, errZlib
		}
	}
	return 0, errLarge
}

func (f *inflater) reset() (err error) {
	if f.z == nil {
		f.z, err = zlib.NewReader(&f.src)
		return err
	}
	return f.z.(zlib.Resetter).Reset(&f.src, nil)
}
