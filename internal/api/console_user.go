package api

import (
	"fmt"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// Bounds of a page of users.
const (
	defaultUsersPage = 50
	maxUsersPage     = 1000
	maxCursor        = 256 // bytes
)

// userSummary is a user in a list.
type userSummary struct {
	UserID     string
	Status     string
	Instances  int
	LastSeenMS int64
}

// userView is all that is known about a user.
type userView struct {
	UserID       string
	Status       string
	Registered   bool
	Seq          uint64
	EventSeq     uint64
	CutoffS      int64 // UserSigs issued before this Unix second are dead; 0 = none
	LastSeenMS   int64
	CustomStatus string
	Nick         string
	FaceURL      string `json:"FaceUrl"` // the REST API's spelling
	Instances    []instanceView
}

type instanceView struct {
	InstID      uint32
	Platform    string
	Status      string
	DeviceID    string
	SDKVersion  string
	DeviceModel string
	LoginMS     int64
	PushUntilMS int64     `json:",omitempty"` // of a PushOnline instance
	Link        *linkView `json:",omitempty"` // of an Online instance the live one, else its last
}

type linkView struct {
	Node        uint32
	LinkID      string `json:",omitempty"` // absent once the link is lost
	Protocol    string
	Listener    string
	Addr        string
	ConnectedMS int64
}

func viewInstance(in *presence.Instance) instanceView {
	v := instanceView{
		InstID: in.InstID, Platform: in.Device.Platform.String(), Status: in.Status.String(),
		DeviceID: in.Device.ID, SDKVersion: in.Device.SDKVersion, DeviceModel: in.Device.Model,
		LoginMS: in.LoginMS, PushUntilMS: in.PushUntilMS,
	}
	l := &in.Link
	if l.ID == 0 && !l.Addr.IsValid() {
		return v
	}
	v.Link = &linkView{Node: l.Node, Protocol: l.Protocol.String(), Listener: l.Listener, Addr: l.Addr.String(), ConnectedMS: l.ConnectedMS}
	if l.ID != 0 {
		v.Link.LinkID = fmt.Sprintf("%016x", uint64(l.ID))
	}
	return v
}

func viewInstances(insts []presence.Instance) []instanceView {
	out := make([]instanceView, 0, len(insts))
	for i := range insts {
		out = append(out, viewInstance(&insts[i]))
	}
	return out
}

// about words a directory's code for the app and user that the path names.
func (c *consoleCall) about(code int, otherwise string) string {
	switch code {
	case directory.CodeUnknownApp:
		return fmt.Sprintf("SDKAppID %d does not exist", c.app)
	case presence.CodeAccountNotExist:
		return fmt.Sprintf("SDKAppID %d has no user %q", c.app, c.userID)
	}
	return otherwise
}

// listUsers pages through the users who have an instance. A page may be short,
// even empty, and still have a Next.
func (c *consoleCall) listUsers() (reply, error) {
	op := &directory.UsersOp{App: c.app, After: c.params["after"]}
	var err error
	if op.Limit, err = c.limit(defaultUsersPage, maxUsersPage); err != nil {
		return reply{}, err
	}
	if op.Status, err = parseStatus(c.params); err != nil {
		return reply{}, err
	}
	if len(op.After) > maxCursor {
		return reply{}, badRequest("after: has %d bytes, this is no cursor of an earlier answer", len(op.After))
	}
	err = c.await(c.s.opts.CallTimeout, func(done func()) {
		op.Done = func(*directory.UsersOp) { done() }
		c.s.dir.Users(op)
	})
	switch {
	case err != nil:
		return reply{}, err
	case op.Code == directory.CodeBadRequest:
		return reply{}, badRequest("after %q: this is no cursor of an earlier answer", c.params["after"])
	case op.Code != presence.CodeOK:
		return reply{}, codeFault(op.Code, c.about(op.Code, "the users cannot be listed now, try again"))
	}
	page := struct {
		Users []userSummary
		Next  string `json:",omitempty"`
	}{Users: []userSummary{}, Next: op.Next}
	for i := range op.Users {
		u := &op.Users[i].User
		page.Users = append(page.Users, userSummary{op.Users[i].UserID, u.Status().String(), len(u.Instances), u.LastSeenMS})
	}
	return ok(page), nil
}

// parseStatus reads the query parameter status. Without one, everybody with an
// instance is listed, for which the directory's word is Offline.
func parseStatus(params map[string]string) (presence.Status, error) {
	text, given := params["status"]
	switch {
	case !given:
		return presence.Offline, nil
	case text == "Online":
		return presence.Online, nil
	case text == "PushOnline":
		return presence.PushOnline, nil
	}
	return 0, badRequest("status %q: want Online, PushOnline, or leave it out for both", text)
}

func (c *consoleCall) getUser() (reply, error) {
	if _, err := c.settings(); err != nil {
		return reply{}, err
	}
	op := &directory.UserOp{Key: presence.Key{App: c.app, UserID: c.userID}}
	err := c.await(c.s.opts.CallTimeout, func(done func()) {
		op.Done = func(*directory.UserOp) { done() }
		c.s.dir.User(op)
	})
	if err != nil {
		return reply{}, err
	}
	if err := codeFault(op.Code, c.about(op.Code, "the user cannot be read now, try again")); err != nil {
		return reply{}, err
	}
	u := &op.User
	return ok(userView{
		UserID: c.userID, Status: u.Status().String(), Registered: u.Registered, Seq: u.Seq, EventSeq: u.EventSeq, CutoffS: u.CutoffS,
		LastSeenMS: u.LastSeenMS, CustomStatus: u.CustomStatus, Nick: u.Nick, FaceURL: u.FaceURL, Instances: viewInstances(u.Instances),
	}), nil
}

// kickUser ends one instance, or all: then UserSigs and session tickets issued
// before die too. The body must say which of the two.
func (c *consoleCall) kickUser() (reply, error) {
	var in struct {
		InstID *uint32
		All    bool
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	op := &directory.KickOp{Key: presence.Key{App: c.app, UserID: c.userID}, NowMS: c.nowMS()}
	switch {
	case in.All == (in.InstID != nil):
		return reply{}, invalid(`want either {"InstID":<number>} or {"All":true}`)
	case in.InstID != nil && (*in.InstID == 0 || *in.InstID > presence.MaxInstID):
		return reply{}, invalid("InstID %d: want 1 to %d", *in.InstID, presence.MaxInstID)
	case in.InstID != nil:
		op.InstID = *in.InstID
	}
	if _, err := c.settings(); err != nil {
		return reply{}, err
	}
	return c.kick(op)
}

func (c *consoleCall) kick(op *directory.KickOp) (reply, error) {
	err := c.await(c.s.opts.CallTimeout, func(done func()) {
		op.Done = func(*directory.KickOp) { done() }
		c.s.dir.Kick(op)
	})
	if err != nil {
		return reply{}, err
	}
	text := c.about(op.Code, "the kick could not be stored, try again")
	if op.Code == presence.CodeInstanceNotExist {
		text = fmt.Sprintf("user %q has no instance %d", c.userID, op.InstID)
	}
	if err := codeFault(op.Code, text); err != nil {
		return reply{}, err
	}
	return ok(struct{ Kicked []instanceView }{viewInstances(op.Kicked)}), nil
}

func (c *consoleCall) listNodes() (reply, error) {
	nodes := c.s.opts.Nodes()
	if nodes == nil {
		nodes = []NodeInfo{}
	}
	return ok(struct{ Nodes []NodeInfo }{nodes}), nil
}
