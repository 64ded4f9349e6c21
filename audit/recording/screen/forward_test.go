package screen

import (
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/audit/recording"
)

// TestForwardsShowNothing: what went through a forward was on no screen, however many there are, and a
// refused one hides nothing after it.
func TestForwardsShowNothing(t *testing.T) {
	var frames []recording.Frame
	add := func(channel uint32, stream recording.Stream, data string) {
		frames = append(frames, recording.Frame{Channel: channel, Stream: stream, Data: []byte(data)})
	}
	add(1, recording.StreamEvent, `{"type":"open","name":"session"}`)
	for ch := uint32(2); ch < 3*maxChannels; ch++ {
		add(ch, recording.StreamEvent, `{"type":"open","name":"direct-tcpip","value":"db:5432"}`)
		add(ch, recording.StreamOut, "hidden\n")
	}
	for ch := uint32(2); ch < 3*maxChannels; ch++ {
		add(ch, recording.StreamOut, "hidden as well\n")
	}
	add(1, recording.StreamOut, "shown\n")
	add(2, recording.StreamEvent, `{"type":"close"}`)
	add(1, recording.StreamEvent, `{"type":"close"}`)
	next := func() (f recording.Frame, err error) {
		if len(frames) == 0 {
			return f, io.EOF
		}
		f, frames = frames[0], frames[1:]
		return f, nil
	}
	var got []string
	for line, err := range lines(t.Context(), next, 1<<30) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, line.Text)
	}
	if diff := cmp.Diff([]string{"shown"}, got); diff != "" {
		t.Error(diff)
	}
}
