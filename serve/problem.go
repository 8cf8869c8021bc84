package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"finetune/chat"
	"finetune/internal/setting"
	"finetune/trainer/data"
)

// apiError is why a request is refused, in OpenAI's form.
type apiError struct {
	status int

	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"` // the field of the request that is meant, or null
	Code    *string `json:"code"`  // what programs go by, or null
}

func (e *apiError) Error() string { return e.Message }

// problem returns an error with an HTTP status, and a code unless it is "".
func problem(status int, code, format string, args ...any) *apiError {
	e := &apiError{status: status, Message: fmt.Sprintf(format, args...), Type: "invalid_request_error"}
	if status >= http.StatusInternalServerError {
		e.Type = "server_error"
	}
	if code != "" {
		e.Code = &code
	}
	return e
}

// bad returns an error about a field of a request.
func bad(param, format string, args ...any) *apiError {
	e := problem(http.StatusBadRequest, "", "%q: "+format, append([]any{param}, args...)...)
	e.Param = &param
	return e
}

// apiErrorOf gives an error of the packages below its status: what the request can mend is 400.
func apiErrorOf(err error) *apiError {
	var own *apiError
	var template *chat.Error
	var format *data.FormatError
	var unsupported *data.UnsupportedError
	var wrong *setting.Error
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &wrong):
		return bad(paramOf(wrong.Key), "want %s, got %s", wrong.Want, wrong.Got)
	case errors.As(err, &format), errors.As(err, &unsupported), errors.As(err, &template):
		_, text, _ := strings.Cut(err.Error(), ": ") // without the package
		return bad("messages", "%s", text)
	case errors.Is(err, errStopping):
		return problem(http.StatusServiceUnavailable, "", "%v", errStopping)
	}
	return problem(http.StatusInternalServerError, "", "%v", err)
}

// paramOf returns the field of a request for a setting of package eval.
func paramOf(key string) string {
	switch key {
	case "temp":
		return "temperature"
	case "n":
		return "max_tokens"
	}
	return strings.ReplaceAll(key, "-", "_")
}

// body is the error as it is sent.
func (e *apiError) body() any {
	return map[string]*apiError{"error": e}
}

// Refuse answers with an HTTP status and an error in the form of this package, {"error": {"message": …}}.
func Refuse(w http.ResponseWriter, status int, format string, args ...any) {
	refuse(w, problem(status, "", format, args...))
}

// refuse sends an error.
func refuse(w http.ResponseWriter, e *apiError) {
	if e.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	send(w, e.status, e.body())
}

// Send answers with v, one of the program's own types, as JSON.
func Send(w http.ResponseWriter, v any) { send(w, http.StatusOK, v) }

// send writes a JSON object, in the time that a client has for it. That it is gone is nobody's error.
func send(w http.ResponseWriter, status int, v any) error {
	extendWrite(w)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, err := w.Write(jsonOf(v))
	return err
}

// jsonOf returns v as a line of JSON, with <, > and & as they are: no browser takes it for HTML.
func jsonOf(v any) []byte {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("internal error: " + err.Error()) // of our own types, which all can be written
	}
	return line.Bytes()
}
