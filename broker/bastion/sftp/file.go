package sftp

// file is an open handle, from its open to the answer to its close and to all else that was asked
// of it.
type file struct {
	op            *Operation
	read, written *transfer
	refs          int // requests under way
	closed        bool
	closing       uint32 // status of the close
	failed        int64
	because       string // why the first of the failed ones did
}

// fail counts a request that the host has answered with an error.
func (f *file) fail(code uint32) {
	if f.failed++; f.failed == 1 {
		f.because = because(code)
	}
}

// reads returns what gathers the bytes that go to the person.
func (o *Observer) reads(f *file) *transfer {
	if f.read == nil {
		f.read = &transfer{jobs: &o.host.jobs, waiting: &o.waiting}
	}
	return f.read
}

// writes returns what gathers the bytes that go to the host.
func (o *Observer) writes(f *file) *transfer {
	if f.written == nil {
		f.written = &transfer{jobs: &o.client.jobs, waiting: &o.waiting}
	}
	return f.written
}

// release ends a request, and with the last one after its close the operation of its file.
func (o *Observer) release(f *file) {
	if f == nil {
		return
	}
	if f.refs--; !f.closed || f.refs > 0 {
		return
	}
	switch {
	case f.failed > 0:
		o.settle(f, Failure, f.because)
	case f.closing != statusOK:
		o.settle(f, Failure, because(f.closing))
	default:
		o.settle(f, Success, "")
	}
}

// settle ends an operation with what went over.
func (o *Observer) settle(f *file, outcome Outcome, reason string) {
	if f.op.Kind == Write {
		o.writes(f) // an empty file has a digest, too
	}
	for _, t := range []*transfer{f.read, f.written} {
		if t != nil {
			t.settle()
		}
	}
	o.host.finish()
	o.client.finish()
	if f.read != nil {
		f.op.Read = f.read.result()
	}
	if f.written != nil {
		f.op.Written = f.written.result()
	}
	f.op.Failed = f.failed
	o.end(f.op, outcome, reason)
}
