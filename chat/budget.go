package chat

import (
	"errors"
	"sync/atomic"

	"finetune/chat/jinja"
)

// Budgets in the units of package jinja, of which a core does 30 million a second or more. A template has one for all that it
// ever renders, which grows with each conversation: a template that takes seconds for a short one stops after a few, not after
// the hours of a data set. Of the 70 templates in llama.cpp's source package the dearest takes 40,000 units for a short
// question, 150 for a byte of tools, 150 for each pair of messages; finding out what it takes costs 500,000.
const (
	probeWork   = 1 << 23 // to find out what a template takes
	startWork   = 1 << 27
	lookWork    = 1 << 25 // in place of startWork for who looks at a template by short conversations only
	renderWork  = 1 << 17 // more, for each rendering
	byteWork    = 160     // and for each byte that is rendered
	messageWork = 256     // times the square of the messages
)

// budget is the work that a template may still do. Goroutines may share it.
type budget struct{ left atomic.Int64 }

// grant adds what a conversation is worth and returns what its rendering may cost.
func (b *budget) grant(messages []Message, tools any) int64 {
	size := weigh(tools)
	for _, m := range messages {
		size += m.bytes()
	}
	n := int64(len(messages))
	return b.left.Add(renderWork + byteWork*size + messageWork*n*n)
}

// spend takes off what a rendering has cost. err is that of the rendering.
func (b *budget) spend(units int64, err error) error {
	b.left.Add(-units)
	if errors.Is(err, jinja.ErrLimit) && b.left.Load() <= 0 {
		return &jinja.Error{Msg: "template asks for too much work over all that it has rendered", Err: jinja.ErrLimit}
	}
	return err
}

// bytes is what there is to render of a message.
func (m Message) bytes() int64 {
	size := int64(len(m.Content) + len(m.Thought))
	for _, c := range m.Calls {
		size += int64(len(c.Name) + len(c.text))
	}
	if m.extra != nil {
		size += weigh(m.extra)
	}
	return size
}

// weigh is the bytes of a template value as a text, more or less.
func weigh(v any) int64 {
	size := int64(8)
	switch v := v.(type) {
	case string:
		size += int64(len(v))
	case []any:
		for _, x := range v {
			size += weigh(x)
		}
	case *jinja.Dict:
		for _, k := range v.Keys() {
			x, _ := v.Get(k)
			size += weigh(k) + weigh(x)
		}
	}
	return size
}
