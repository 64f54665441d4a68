package api

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

func TestBackup(t *testing.T) {
	dir := t.TempDir()
	var asked []string
	r := newRig(t, func(o *Options) {
		o.Backup = func(to string) error {
			asked = append(asked, to)
			if filepath.Base(to) == "full" {
				return errors.New("no space left on device")
			}
			return os.Mkdir(to, 0o700)
		}
	})
	copyTo, full := filepath.Join(dir, "copy"), filepath.Join(dir, "full")
	for _, c := range []struct {
		body   string
		status int
	}{
		{`{"Dir":"` + copyTo + `"}`, http.StatusNoContent},
		{`{"Dir":"` + copyTo + `"}`, http.StatusConflict},
		{`{"Dir":"` + full + `"}`, http.StatusInternalServerError},
		{`{"Dir":"copy"}`, http.StatusBadRequest},
		{`{"Dir":""}`, http.StatusBadRequest},
		{`{"Dir":"` + dir + `/../x"}`, http.StatusBadRequest},
		{`{}`, http.StatusBadRequest},
		{`{"To":"/x"}`, http.StatusBadRequest},
	} {
		r.want(c.status, "POST", "/console/v1/store/backup", c.body)
	}
	if len(asked) != 2 || asked[0] != copyTo || asked[1] != full {
		t.Errorf("the store was copied to %q", asked)
	}
}

func TestBackupWithoutStore(t *testing.T) {
	r := newRig(t)
	r.want(http.StatusConflict, "POST", "/console/v1/store/backup", `{"Dir":"/x/y"}`)
}
