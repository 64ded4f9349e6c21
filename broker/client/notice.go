package client

import "context"

type noticeKey struct{}

// WithNotices has f told what the broker says of its answers to calls with this context: a sentence, such as
// that part of what was asked for could not be searched. f is called before the answer's first line.
func WithNotices(ctx context.Context, f func(text string)) context.Context {
	return context.WithValue(ctx, noticeKey{}, f)
}

// notice hands on what an answer's header says.
func notice(ctx context.Context, text string) {
	if f, ok := ctx.Value(noticeKey{}).(func(string)); ok && text != "" {
		f(text)
	}
}
