package bastion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

// sized is a broker that takes no more than so many bytes a request, as the real one does.
type sized struct {
	*fakeControl
	most int
}

var errTooLarge = errors.New("request body too large")

func (c sized) Report(ctx context.Context, reports []api.Report) error {
	body, err := json.Marshal(reports)
	if err == nil && len(body) > c.most {
		err = errTooLarge
	}
	if err != nil {
		return err
	}
	return c.fakeControl.Report(ctx, reports)
}

// TestManyHeads: the heads of however many recordings reach the log, each once, whatever a request may hold.
func TestManyHeads(t *testing.T) {
	for _, n := range []int{1, headsBatch, headsBatch + 1, 20 * headsBatch} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			f := newFakeControl(t)
			b := &Bastion{cfg: Config{Control: sized{f, 1 << 20}, CallTimeout: time.Second, Now: time.Now}}
			var want, got []openHead
			for i := range n { // each as long as it may be
				want = append(want, openHead{ID: fmt.Sprintf("ssh_%060d", i), Segments: math.MaxInt64, Bytes: math.MaxInt64, Hash: strings.Repeat("f", 128)})
			}
			if err := b.reportHeads(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			for _, r := range f.find(kindHeads) {
				var d headsDetail
				decode(t, r.Details, &d)
				got = slices.Concat(got, d.Sessions)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
