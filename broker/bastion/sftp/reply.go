package sftp

import (
	"fmt"
	"slices"
)

// answers lists what may come for a request besides a status.
func (r *request) answers(typ byte) bool {
	switch r.typ {
	case typeOpen, typeOpendir:
		return typ == typeHandle
	case typeRead:
		return typ == typeData
	case typeReaddir, typeRealpath, typeReadlink:
		return typ == typeName
	case typeStat, typeLstat, typeFstat:
		return typ == typeAttrs
	case typeExtended:
		if r.named {
			return typ == typeName
		}
		return typ == typeExtendedReply && r.count != ""
	}
	return false
}

// reply judges a packet of the host's by its head.
func (o *Observer) reply(head []byte, rest int) (verdict, error) {
	typ, f := head[4], fields{head[5:], true}
	if typ == typeVersion {
		return verdict{}, o.answered(f.uint32())
	}
	id := f.uint32()
	r := o.requests[id]
	switch {
	case r == nil:
		return verdict{}, &Error{true, fmt.Sprintf("answered request %d, which nobody made", id)}
	case typ != typeStatus && !r.answers(typ):
		return verdict{}, &Error{true, fmt.Sprintf("answered a request of type %d with a packet of type %d", r.typ, typ)}
	}
	v, err := verdict{}, error(nil)
	switch typ {
	case typeStatus:
		o.status(r, f.uint32())
	case typeHandle:
		err = o.handle(r, string(f.string()), &f)
	case typeData:
		v, err = o.data(r, f.uint32(), rest)
	case typeName:
		if r.typ == typeReaddir {
			r.file.op.Entries += int64(f.uint32())
		}
	}
	if err != nil {
		return v, err
	}
	v.done = func() { o.release(r.file) }
	if typ == typeData { // of which the end may never come
		v.done = func() { o.forget(id, r); o.release(r.file) }
	} else {
		o.forget(id, r)
	}
	return v, nil
}

// answered takes the host's version. Another one has other packets.
func (o *Observer) answered(v uint32) error {
	switch {
	case !o.asked || o.ready:
		return &Error{true, "said its version without being asked"}
	case v != version:
		return &Error{true, fmt.Sprintf("speaks SFTP version %d, and the bastion knows version %d alone", v, version)}
	}
	o.ready = true
	return nil
}

// forget takes a request off the list of those under way.
func (o *Observer) forget(id uint32, r *request) {
	delete(o.requests, id)
	if r.typ == typeOpen || r.typ == typeOpendir {
		o.opening--
	}
	o.room.Broadcast()
}

// status ends a request, or says why it failed.
func (o *Observer) status(r *request, code uint32) {
	switch {
	case r.count != "" && code != statusOK:
		c := o.counts[r.count]
		c.Failed++
		o.counts[r.count] = c
	case r.op != nil && code == statusOK && (r.typ == typeOpen || r.typ == typeOpendir):
		o.end(r.op, Unknown, "the host gave no handle")
	case r.op != nil && code == statusOK:
		o.end(r.op, Success, "")
	case r.op != nil:
		o.end(r.op, Failure, because(code))
	case r.typ == typeClose:
		r.file.closing = code
	case r.file != nil && !slices.Contains([]uint32{statusOK, statusEOF}, code):
		r.file.fail(code)
	}
}

// handle takes the handle of a new file.
func (o *Observer) handle(r *request, name string, f *fields) error {
	switch _, twice := o.handles[name]; {
	case !f.ok || len(f.b) > 0:
		return &Error{true, "sent a handle that is cut off"}
	case twice:
		return &Error{true, "gave one handle for two open files"}
	}
	o.handles[name] = &file{op: r.op}
	return nil
}

// data takes bytes of a file.
func (o *Observer) data(r *request, size uint32, rest int) (verdict, error) {
	if int64(size) != int64(rest) || size > r.size {
		return verdict{}, &Error{true, fmt.Sprintf("sent %d bytes, %d of them in the packet, where %d were asked for", size, rest, r.size)}
	}
	t, at := o.reads(r.file), r.at
	return verdict{content: true, bytes: func(b []byte) {
		t.add(at, b)
		at += uint64(len(b))
	}}, nil
}
