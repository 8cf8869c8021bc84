package page

import (
	"context"
	"net/http"
	"sync"
	"time"

	"finetune/serve"
)

// Chat answers OpenAI's API with the models "base" and "adapter".
type Chat struct {
	Handler  http.Handler // of /v1/chat/completions and /v1/completions
	Template bool         // there is one, and conversations; else texts are continued
	Notes    []string     // what somebody should know
	Close    func() error // returns when nothing is answered any more
}

// chats holds the one that is open.
type chats struct {
	open func(ctx context.Context, dir string) (*Chat, error)

	mu     sync.Mutex // held while a model is opened, which may take some seconds
	dir    string
	chat   *Chat
	closed bool
}

// of returns the conversation with the run in a directory, and closes another.
func (c *chats) of(ctx context.Context, dir string) (*Chat, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.chat != nil && c.dir == dir {
		return c.chat, nil
	}
	if c.closed {
		return nil, context.Canceled
	}
	if err := c.shut(); err != nil {
		return nil, err
	}
	chat, err := c.open(ctx, dir)
	if err != nil {
		return nil, err
	}
	c.dir, c.chat = dir, chat
	return chat, nil
}

// shut closes what is open. c.mu must be held.
func (c *chats) shut() error {
	chat := c.chat
	c.chat = nil
	if chat == nil {
		return nil
	}
	return chat.Close()
}

func (c *chats) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return c.shut()
}

// patience is how long opening a model, or writing a report, may take until the page is given up.
const patience = 10 * time.Minute

// openChat makes a run's model ready, and tells what can be asked.
func (h *Handler) openChat(w http.ResponseWriter, r *http.Request, of run) {
	if why := h.noChat(of); why != "" {
		serve.Refuse(w, http.StatusConflict, "%s", why)
		return
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience))
	chat, err := h.chat.of(r.Context(), of.Dir)
	if err != nil {
		serve.Refuse(w, http.StatusInternalServerError, "%v", err)
		return
	}
	serve.Send(w, struct {
		Template bool     `json:"template"`
		Notes    []string `json:"notes,omitempty"`
	}{chat.Template, chat.Notes})
}

// answer hands a question to the model of a run: {form} is chat or text.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, of run) {
	path, ok := map[string]string{"chat": "/v1/chat/completions", "text": "/v1/completions"}[r.PathValue("form")]
	if !ok {
		serve.Refuse(w, http.StatusNotFound, "%.20q: want chat or text", r.PathValue("form"))
		return
	}
	if why := h.noChat(of); why != "" {
		serve.Refuse(w, http.StatusConflict, "%s", why)
		return
	}
	chat, err := h.chat.of(r.Context(), of.Dir)
	if err != nil {
		serve.Refuse(w, http.StatusInternalServerError, "%v", err)
		return
	}
	to := r.Clone(r.Context())
	to.URL.Path, to.URL.RawPath, to.URL.RawQuery = path, "", ""
	chat.Handler.ServeHTTP(w, to)
}
