package sftp

import "encoding/binary"

// Types of packets (draft-ietf-secsh-filexfer-02 section 3).
const (
	typeInit          = 1
	typeVersion       = 2
	typeOpen          = 3
	typeClose         = 4
	typeRead          = 5
	typeWrite         = 6
	typeLstat         = 7
	typeFstat         = 8
	typeSetstat       = 9
	typeFsetstat      = 10
	typeOpendir       = 11
	typeReaddir       = 12
	typeRemove        = 13
	typeMkdir         = 14
	typeRmdir         = 15
	typeRealpath      = 16
	typeStat          = 17
	typeRename        = 18
	typeReadlink      = 19
	typeSymlink       = 20
	typeStatus        = 101
	typeHandle        = 102
	typeData          = 103
	typeName          = 104
	typeAttrs         = 105
	typeExtended      = 200
	typeExtendedReply = 201
)

// Codes of a status (section 7).
const (
	statusOK          = 0
	statusEOF         = 1
	statusDenied      = 3
	statusFailure     = 4
	statusUnsupported = 8
)

// Bits of an open request (section 6.3).
const (
	flagRead   = 0x01
	flagWrite  = 0x02
	flagAppend = 0x04
	flagCreate = 0x08
	flagTrunc  = 0x10
	flagExcl   = 0x20
)

// Bits of attributes (section 5).
const (
	attrSize  = 0x00000001
	attrOwner = 0x00000002
	attrMode  = 0x00000004
	attrTimes = 0x00000008
)

const (
	version   = 3
	maxPacket = 256 << 10 // behind its length: OpenSSH's SFTP_MAX_MSG_LENGTH
	maxHandle = 256       // bytes (section 6.3)
	maxPath   = 4 << 10   // of a path that is kept: Linux's PATH_MAX
)

// fields reads the fields of a packet in turn. Once one is not there, ok is false for good.
type fields struct {
	b  []byte
	ok bool
}

func (f *fields) take(n int) []byte {
	if !f.ok || n > len(f.b) {
		f.ok, f.b = false, nil
		return nil
	}
	b := f.b[:n]
	f.b = f.b[n:]
	return b
}

func (f *fields) uint32() uint32 {
	b := f.take(4)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func (f *fields) uint64() uint64 {
	b := f.take(8)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// string aliases the packet.
func (f *fields) string() []byte {
	n := f.uint32()
	if n > maxPacket {
		f.ok = false
		return nil
	}
	return f.take(int(n))
}

// attrs reads what a request sets. Extended attributes are looked at by nobody.
func (f *fields) attrs() *Attributes {
	a, bits := &Attributes{}, f.uint32()
	if bits&attrSize != 0 {
		v := f.uint64()
		a.Size = &v
	}
	if bits&attrOwner != 0 {
		uid, gid := f.uint32(), f.uint32()
		a.UID, a.GID = &uid, &gid
	}
	if bits&attrMode != 0 {
		v := f.uint32()
		a.Mode = &v
	}
	if bits&attrTimes != 0 {
		atime, mtime := f.uint32(), f.uint32()
		a.Accessed, a.Modified = &atime, &mtime
	}
	if *a == (Attributes{}) {
		return nil
	}
	return a
}

// status is a packet that ends a request.
func status(id, code uint32, text string) []byte {
	b := make([]byte, 4, 4+1+4+4+4+len(text)+4)
	b = append(b, typeStatus)
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint32(b, code)
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
	b = append(b, text...)
	b = binary.BigEndian.AppendUint32(b, 0)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}
