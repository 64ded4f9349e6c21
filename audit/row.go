package audit

// Row is an event as stored.
type Row struct {
	Index   int64
	Body    []byte            // the envelope's bytes: the leaf
	Salt    []byte            // 32 bytes, or empty where there are no details or they were deleted
	Details []byte            // JSON, or empty
	Columns map[string]string // every indexed column as stored, in the form that Columns derives
	Leaf    []byte            // the leaf's hash as the tree has it, where the reader can tell; it proves nothing by itself
}
