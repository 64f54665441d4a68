package api

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/valyala/fasthttp"
)

// backupStore copies the store and answers when that is complete.
func (c *consoleCall) backupStore() (reply, error) {
	var in struct{ Dir string }
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	if c.s.opts.Backup == nil {
		return reply{}, conflict("the node has no store: its durability is memory")
	}
	if !filepath.IsAbs(in.Dir) || filepath.Clean(in.Dir) != in.Dir {
		return reply{}, badRequest("Dir %q: want the absolute path of a directory to make", in.Dir)
	}
	if _, err := os.Lstat(in.Dir); !errors.Is(err, fs.ErrNotExist) {
		return reply{}, conflict("Dir %q: it exists already", in.Dir)
	}
	if err := c.s.opts.Backup(in.Dir); err != nil {
		c.s.log.Error("the store could not be copied", "dir", in.Dir, "error", err)
		return reply{}, newFault(fasthttp.StatusInternalServerError, "Internal", "%v", err)
	}
	return reply{}, nil
}
