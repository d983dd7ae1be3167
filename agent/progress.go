package agent

import "context"

// progressKey finds who is told of progress in a context.
type progressKey struct{}

// WithProgress returns a context whose work tells report, in words for people,
// how far it is. It may be told often, and at the same time.
func WithProgress(ctx context.Context, report func(string)) context.Context {
	return context.WithValue(ctx, progressKey{}, report)
}

// Progress returns whom to tell how far the work of a context is, in words for
// people. There always is one, who may not listen.
func Progress(ctx context.Context) func(string) {
	if report, ok := ctx.Value(progressKey{}).(func(string)); ok {
		return report
	}
	return func(string) {}
}
