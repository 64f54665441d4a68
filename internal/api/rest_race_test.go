package api

import (
	"fmt"
	"sync"
	"testing"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// TestRESTConcurrently mixes all calls: each worker owns some users and must find
// them as it left them, whatever the others do to theirs.
func TestRESTConcurrently(t *testing.T) {
	r := newRESTRig(t, nil)
	r.login("always online", presence.Web, "d")
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 25 {
				id, other := fmt.Sprintf("w%d u%d", w, i), fmt.Sprintf("w%d v%d", w, i)
				r.post(importCommand, fmt.Sprintf(`{"UserID":%q}`, id)).want(t, 0)
				a := r.post(queryCommand, queryBody(t, []string{id, "always online", other}, "")).want(t, 0)
				if len(a.QueryResult) != 2 || a.QueryResult[0].To_Account != id || a.QueryResult[0].Status != "Offline" ||
					a.QueryResult[1].Status != "Online" || len(a.ErrorList) != 1 || a.ErrorList[0].To_Account != other {
					t.Errorf("%s", a.raw)
				}
				r.post(kickCommand, fmt.Sprintf(`{"UserID":%q}`, id)).want(t, 0)
				a = r.post(deleteCommand, fmt.Sprintf(`{"DeleteItem":[{"UserID":%q},{"UserID":%q}]}`, id, other)).want(t, 0)
				if a.ResultItem[0].ResultCode != 0 || a.ResultItem[1].ResultCode != 70107 {
					t.Errorf("%s", a.raw)
				}
				a = r.post(checkCommand, fmt.Sprintf(`{"CheckItem":[{"UserID":%q}]}`, id)).want(t, 0)
				if a.ResultItem[0].AccountStatus != "NotImported" {
					t.Errorf("%s", a.raw)
				}
			}
		})
	}
	wg.Wait()
}
