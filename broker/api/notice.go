package api

import "context"

type noticeKey struct{}

// WithNotices has f told what the broker says of its answers (HeaderNotice) to calls of a client with this
// context: a sentence, such as that part of what was asked for could not be searched. f is called before the
// answer's first line is read.
func WithNotices(ctx context.Context, f func(text string)) context.Context {
	return context.WithValue(ctx, noticeKey{}, f)
}

// Notice hands on what an answer says.
func Notice(ctx context.Context, text string) {
	if f, ok := ctx.Value(noticeKey{}).(func(string)); ok && text != "" {
		f(text)
	}
}
