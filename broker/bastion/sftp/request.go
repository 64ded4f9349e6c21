package sftp

import (
	"fmt"
	"strings"
)

// request is what the host has not answered.
type request struct {
	typ   byte
	op    *Operation // ends with the answer; nil for what is counted, or belongs to a file
	count string     // name in the counts; "" for what is an operation
	file  *file
	at    uint64 // of a read
	size  uint32
	named bool // an extension that is answered with names
}

// request judges a packet of the person's by its head.
func (o *Observer) request(head []byte, rest int) (verdict, error) {
	typ := head[4]
	if typ == typeInit {
		return verdict{}, o.init()
	}
	if !o.ready {
		return verdict{}, &Error{Text: fmt.Sprintf("sent a request of type %d before the host had said its version", typ)}
	}
	if len(o.requests) >= maxRequests {
		return verdict{stop: true}, nil
	}
	f := fields{head[5:], true}
	id := f.uint32()
	if !f.ok {
		return verdict{}, &Error{Text: fmt.Sprintf("sent a request of type %d without an ID", typ)}
	}
	if _, twice := o.requests[id]; twice {
		return verdict{}, &Error{Text: fmt.Sprintf("sent a second request %d before the first was answered", id)}
	}
	p := parser{o: o, id: id, f: &f, rest: rest}
	v, err := p.parse(typ)
	if err == nil && !f.ok {
		err = &Error{Text: fmt.Sprintf("sent a request of type %d that is cut off", typ)}
	}
	return v, err
}

func (o *Observer) init() error {
	if o.asked {
		return &Error{Text: "said its version a second time"}
	}
	o.asked = true
	return nil
}

// parser takes one request apart.
type parser struct {
	o    *Observer
	id   uint32
	f    *fields
	rest int
}

func (p *parser) parse(typ byte) (verdict, error) {
	switch typ {
	case typeOpen, typeOpendir:
		return p.open(typ), nil
	case typeClose, typeRead, typeReaddir:
		return p.ofFile(typ), nil
	case typeWrite:
		return p.write()
	case typeStat, typeLstat, typeRealpath, typeReadlink:
		p.f.string()
		return p.look(typ, map[byte]string{typeStat: "stat", typeLstat: "lstat", typeRealpath: "realpath", typeReadlink: "readlink"}[typ]), nil
	case typeFstat:
		return p.lookAtHandle("fstat"), nil
	case typeSetstat:
		return p.setstat(typ), nil
	case typeFsetstat:
		return p.fsetstat(), nil
	case typeRemove, typeMkdir, typeRmdir:
		return p.onPath(typ), nil
	case typeRename:
		return p.twoPaths(typ, Rename, false), nil
	case typeSymlink: // as OpenSSH reads it, what it leads to comes first
		return p.twoPaths(typ, Symlink, true), nil
	case typeExtended:
		return p.extended(), nil
	}
	return verdict{}, &Error{Text: fmt.Sprintf("sent a request of type %d, which version 3 does not have", typ)}
}

// path reads a path, of which it keeps the beginning.
func (p *parser) path(op *Operation, into *string) {
	b := p.f.string()
	if len(b) > maxPath {
		b, op.Cut = b[:maxPath], true
	}
	*into = string(b)
}

// handle returns the file of a handle, or nil.
func (p *parser) handle() *file { return p.o.handles[string(p.f.string())] }

// pass lets a request through.
func (p *parser) pass(r *request) verdict {
	if !p.f.ok {
		return verdict{}
	}
	if r.file != nil {
		r.file.refs++
	}
	if r.op != nil {
		p.o.begin(r.op)
	}
	p.o.requests[p.id] = r
	return verdict{}
}

// answer keeps a request from the host.
func (p *parser) answer(code uint32, text string) verdict {
	if p.f.ok {
		p.o.step.Reply = append(p.o.step.Reply, status(p.id, code, "sega: "+text)...)
	}
	return verdict{drop: true}
}

// refuse is answer, and says so.
func (p *parser) refuse(op *Operation, code uint32, text string) verdict {
	if p.f.ok {
		p.o.end(op, Denied, text)
	}
	return p.answer(code, text)
}

// change passes an operation that changes something on the host, unless nothing may.
func (p *parser) change(op *Operation, r *request) verdict {
	if p.o.config.ReadOnly {
		return p.refuse(op, statusDenied, readOnly)
	}
	return p.pass(r)
}

func (p *parser) open(typ byte) verdict {
	op := p.o.newOperation(List)
	p.path(op, &op.Path)
	writes := false
	if typ == typeOpen {
		flags := p.f.uint32()
		op.Kind, op.Flags, op.Attrs = Read, flagNames(flags), p.f.attrs()
		if writes = flags&^flagRead != 0; writes {
			op.Kind = Write
		}
	}
	if len(p.o.handles)+p.o.opening >= maxFiles {
		return p.refuse(op, statusFailure, tooMany)
	}
	r := &request{typ: typ, op: op}
	if !writes {
		p.o.opening++
		return p.pass(r)
	}
	v := p.change(op, r)
	if !v.drop {
		p.o.opening++
	}
	return v
}

func (p *parser) ofFile(typ byte) verdict {
	name := p.f.string()
	file := p.o.handles[string(name)]
	r := &request{typ: typ, file: file}
	if typ == typeRead {
		r.at, r.size = p.f.uint64(), p.f.uint32()
	}
	switch {
	case file == nil:
		return p.answer(statusFailure, noHandle)
	case typ == typeClose:
		delete(p.o.handles, string(name))
		file.closed = true
	case typ == typeRead:
		p.o.reads(file).expect(r.at)
	}
	return p.pass(r)
}

func (p *parser) write() (verdict, error) {
	file, at := p.handle(), p.f.uint64()
	if size := p.f.uint32(); p.f.ok && int64(size) != int64(p.rest) {
		return verdict{}, &Error{Text: fmt.Sprintf("sent %d bytes to write in a packet with room for %d", size, p.rest)}
	}
	var v verdict
	switch {
	case file == nil:
		v = p.answer(statusFailure, noHandle)
	case p.o.config.ReadOnly:
		v = p.answer(statusDenied, readOnly)
	default:
		v = p.pass(&request{typ: typeWrite, file: file})
		t := p.o.writes(file)
		t.expect(at)
		v.bytes = func(b []byte) {
			t.add(at, b)
			at += uint64(len(b))
		}
	}
	v.content = true
	return v, nil
}

// look passes what changes nothing; it is counted.
func (p *parser) look(typ byte, name string) verdict {
	if p.f.ok {
		c := p.o.counts[name]
		c.Count++
		p.o.counts[name] = c
	}
	return p.pass(&request{typ: typ, count: name})
}

func (p *parser) lookAtHandle(name string) verdict {
	if p.handle() == nil {
		return p.answer(statusFailure, noHandle)
	}
	return p.look(typeFstat, name)
}

func (p *parser) setstat(typ byte) verdict {
	op := p.o.newOperation(Setstat)
	p.path(op, &op.Path)
	op.Attrs = p.f.attrs()
	return p.change(op, &request{typ: typ, op: op})
}

func (p *parser) fsetstat() verdict {
	file := p.handle()
	if file == nil {
		return p.answer(statusFailure, noHandle)
	}
	op := p.o.newOperation(Setstat)
	op.Path, op.Cut, op.Attrs = file.op.Path, file.op.Cut, p.f.attrs()
	return p.change(op, &request{typ: typeFsetstat, op: op})
}

func (p *parser) onPath(typ byte) verdict {
	op := p.o.newOperation(map[byte]Kind{typeRemove: Remove, typeMkdir: Mkdir, typeRmdir: Rmdir}[typ])
	p.path(op, &op.Path)
	if typ == typeMkdir {
		op.Attrs = p.f.attrs()
	}
	return p.change(op, &request{typ: typ, op: op})
}

// twoPaths reads an operation on two paths; swapped says that the first one is To.
func (p *parser) twoPaths(typ byte, kind Kind, swapped bool) verdict {
	op := p.o.newOperation(kind)
	p.path(op, &op.Path)
	p.path(op, &op.To)
	if swapped {
		op.Path, op.To = op.To, op.Path
	}
	return p.change(op, &request{typ: typ, op: op})
}

// extended reads one of OpenSSH's extensions (its PROTOCOL, section 4).
func (p *parser) extended() verdict {
	switch name := string(p.f.string()); name {
	case "posix-rename@openssh.com":
		return p.twoPaths(typeExtended, Rename, false)
	case "hardlink@openssh.com":
		return p.twoPaths(typeExtended, Link, true)
	case "lsetstat@openssh.com":
		return p.setstat(typeExtended)
	case "copy-data":
		return p.copy()
	case "fsync@openssh.com", "fstatvfs@openssh.com":
		return p.extendedLook(name, p.handle() != nil)
	case "statvfs@openssh.com", "expand-path@openssh.com", "home-directory":
		p.f.string()
		return p.extendedLook(name, true)
	case "limits@openssh.com", "users-groups-by-id@openssh.com":
		return p.extendedLook(name, true)
	default:
		op := p.o.newOperation(Refuse)
		op.Name = name[:min(len(name), 64)]
		return p.refuse(op, statusUnsupported, unknownName)
	}
}

func (p *parser) extendedLook(name string, known bool) verdict {
	if !known {
		return p.answer(statusFailure, noHandle)
	}
	short, _, _ := strings.Cut(name, "@")
	v := p.look(typeExtended, short)
	if r := p.o.requests[p.id]; r != nil {
		r.named = name == "expand-path@openssh.com" || name == "home-directory"
	}
	return v
}

func (p *parser) copy() verdict {
	from := p.handle()
	r := Range{Offset: p.f.uint64(), Bytes: p.f.uint64()}
	to := p.handle()
	r.To = p.f.uint64()
	if from == nil || to == nil {
		return p.answer(statusFailure, noHandle)
	}
	op := p.o.newOperation(Copy)
	op.Path, op.To, op.Cut, op.Range = from.op.Path, to.op.Path, from.op.Cut || to.op.Cut, &r
	return p.change(op, &request{typ: typeExtended, op: op})
}
