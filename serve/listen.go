package serve

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"finetune/internal/hint"
)

// Listen opens a TCP port on a loopback address, HOST:PORT. Port 0 is one that is free. Other addresses are refused: whoever reaches
// the port can have the machine work for them.
func Listen(addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, hint.With(fmt.Errorf("address %q: want HOST:PORT", addr), "127.0.0.1:8080, for example")
	}
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1" // whatever the machine's table of names says
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return nil, hint.With(fmt.Errorf("address %q: want one of this machine alone, 127.0.0.1 or [::1]: whoever reaches the port can have this machine work for them", addr),
			"for others, put a proxy that asks who they are in front, or forward the port: ssh -L 8080:127.0.0.1:8080 THIS-MACHINE")
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	return l, nil
}

// Until answers the requests that reach l by h until ctx is cancelled, with this package's limits on how long a client may take.
// Then stopping is called, what is being answered has grace to end before its context is cancelled, and Until returns nil. It
// closes l.
func Until(ctx context.Context, l net.Listener, h http.Handler, grace time.Duration, stopping func()) error {
	work, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	server := &http.Server{Handler: h, BaseContext: func(net.Listener) context.Context { return work },
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: mostHeader}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	var err error
	select {
	case err = <-ended: // the listener failed
	case <-ctx.Done():
	}
	stopping()
	patience, cancel := context.WithTimeout(work, grace)
	defer cancel()
	if server.Shutdown(patience) != nil {
		cut(errStopping) // which ends the answer within a pass of the model
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		server.Shutdown(last) // for what there is to say
		server.Close()
	}
	return err
}

// extendWrite gives the client its time to take what comes next.
func extendWrite(w http.ResponseWriter) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
}
