package screen

import "errors"

// ErrWork means that a session made more work than its output accounts for: a few bytes can ask for
// a whole screen to be moved, again and again. What was drawn before it is sound.
var ErrWork = errors.New("screen: the session asks for more drawing than its output accounts for")

// What a session may cost. A unit is a cell that is touched, about two nanoseconds; text needs a few
// for each byte, and programs that paint whole screens not many more.
const (
	freeWork = 1 << 30 // units that any session has
	byteWork = 64      // units that a byte of output brings
	rowsMove = 8       // rows that one unit moves
)

// work counts what drawing costs, by what is done and not by the clock: the same recording is drawn
// up to the same place everywhere.
type work struct {
	left int64 // units; none below 0
	most int64 // that may still be brought
}

// newWork allows most units in all.
func newWork(most int64) *work {
	free := min(most, freeWork)
	return &work{left: free, most: most - free}
}

// bring adds what n bytes of output account for.
func (w *work) bring(n int) {
	more := min(int64(n)*byteWork, w.most)
	w.left += more
	w.most -= more
}

func (w *work) spend(n int) { w.left -= int64(n) }

func (w *work) over() bool { return w.left < 0 }
