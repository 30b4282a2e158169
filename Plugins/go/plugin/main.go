// An in-process plugin in Go: the handlers noop, authz and work, each session in its own goroutine.
//
//	GO111MODULE=off go build -buildmode=c-shared -o plugin-go.so ./plugin
//
// The host starts a phase with event_stream, which only passes it to the session's goroutine. A handler reads by
// calling the callback; the answer arrives through event_stream, with phase 0, while the goroutine waits.
package main

/*
#cgo CFLAGS: -I${SRCDIR}/../../../Sources/Nylon/ABI/include
#include "nylon_abi.h"

// Go can neither call a C function pointer nor pass a struct with a Go pointer in it.
static inline void call_host(NylonCallback host, uint32_t sid, uint8_t phase, uint32_t method, const uint8_t *ptr,
                             uint64_t len) {
	NylonFfiBuffer event = {sid, phase, method, ptr, len};
	host(&event);
}
*/
import "C"

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

const (
	requestFilter  = 1
	responseFilter = 2
	logging        = 4

	next                 = 1
	setResponseHeader    = 100
	readResponseStatus   = 108
	readResponseDuration = 111
	readRequestPath      = 204
	readRequestMethod    = 209
)

// errClosed means that the session was closed while its handler waited for the host.
var errClosed = errors.New("session closed")

type answer struct {
	method uint32
	data   []byte
}

// session is one proxied HTTP request.
type session struct {
	sid     uint32
	host    C.NylonCallback
	handler func(*context) error
	starts  chan uint8
	answers chan answer
	closed  chan struct{}
}

var (
	lock     sync.RWMutex
	sessions = map[uint32]*session{}
)

func find(sid uint32) *session {
	lock.RLock()
	defer lock.RUnlock()
	return sessions[sid]
}

// run runs the session's phases until it is closed.
func (s *session) run() {
	for {
		select {
		case phase := <-s.starts:
			// A closed session gets no answer: the host no longer waits for it.
			ctx := &context{session: s, phase: phase}
			if s.handler(ctx) == nil {
				ctx.call(phase, next, nil)
			}
		case <-s.closed:
			return
		}
	}
}

// context is one phase of a session, as its handler sees it.
type context struct {
	*session
	phase uint8
}

func (c *context) call(phase uint8, method uint32, payload []byte) {
	var start *C.uint8_t
	if len(payload) > 0 {
		start = (*C.uint8_t)(unsafe.Pointer(&payload[0]))
	}
	C.call_host(c.host, C.uint32_t(c.sid), C.uint8_t(phase), C.uint32_t(method), start, C.uint64_t(len(payload)))
}

func (c *context) setResponseHeader(key, value string) {
	c.call(c.phase, setResponseHeader, headerKeyValue(key, value))
}

// read asks the host for a string and waits for it.
func (c *context) read(method uint32) (string, error) {
	c.call(0, method, nil)
	for {
		select {
		case answer := <-c.answers:
			if answer.method == method {
				return string(answer.data), nil
			}
		case <-c.closed:
			return "", errClosed
		}
	}
}

// headerKeyValue is the FlatBuffers table HeaderKeyValue {key, value}. Offsets are relative to their own position.
func headerKeyValue(key, value string) []byte {
	padded := func(text string) int { return (4 + len(text) + 1 + 3) &^ 3 }
	bytes := make([]byte, 24+padded(key)+padded(value))
	putString := func(place int, text string) {
		binary.LittleEndian.PutUint32(bytes[place:], uint32(len(text)))
		copy(bytes[place+4:], text)
	}
	binary.LittleEndian.PutUint32(bytes[0:], 12) // the table is 12 bytes from here
	// The vtable: the sizes of itself and of the table, and the positions of key and value in the table.
	copy(bytes[4:], []byte{8, 0, 12, 0, 4, 0, 8, 0})
	binary.LittleEndian.PutUint32(bytes[12:], 8) // the table: the vtable is 8 bytes before
	binary.LittleEndian.PutUint32(bytes[16:], 8)
	binary.LittleEndian.PutUint32(bytes[20:], uint32(4+padded(key)))
	putString(24, key)
	putString(24+padded(key), value)
	return bytes
}

var handlers = map[string]func(*context) error{"noop": noop, "authz": authz, "work": work}

func noop(*context) error { return nil }

// authz does two reads, sets two headers and logs a line.
func authz(c *context) error {
	switch c.phase {
	case requestFilter:
		for _, method := range []uint32{readRequestMethod, readRequestPath} {
			if _, err := c.read(method); err != nil {
				return err
			}
		}
		c.setResponseHeader("X-Plugin-Transport", "FFI")
	case responseFilter:
		c.setResponseHeader("X-Processed-By", "FFI-Plugin")
	case logging:
		var line [4]string
		for place, method := range []uint32{
			readRequestMethod, readRequestPath, readResponseStatus, readResponseDuration,
		} {
			text, err := c.read(method)
			if err != nil {
				return err
			}
			line[place] = text
		}
		accessLog.add(line)
	}
	return nil
}

var workMicroseconds int64 = 100

// work burns CPU in the request filter.
func work(c *context) error {
	if c.phase == requestFilter {
		end := time.Now().Add(time.Duration(atomic.LoadInt64(&workMicroseconds)) * time.Microsecond)
		for time.Now().Before(end) {
		}
	}
	return nil
}

// log has the last lines of the access log, in memory: a handler under load must not wait for a terminal.
type log struct {
	sync.Mutex
	lines [1024][4]string
	count int
}

var accessLog log

func (l *log) add(line [4]string) {
	l.Lock()
	defer l.Unlock()
	l.lines[l.count%len(l.lines)] = line
	l.count++
}

// The six symbols

//export initialize
func initialize(configJSON *C.char, length C.int) {
	if length <= 0 {
		return
	}
	configuration := struct {
		WorkMicroseconds int64 `json:"work_us"`
	}{100}
	if err := json.Unmarshal(C.GoBytes(unsafe.Pointer(configJSON), length), &configuration); err != nil {
		fmt.Fprintln(os.Stderr, "plugin-go: config:", err)
		return
	}
	atomic.StoreInt64(&workMicroseconds, configuration.WorkMicroseconds)
}

//export register_session_stream
func register_session_stream(sid C.uint32_t, entry *C.char, length C.uint32_t, callback C.NylonCallback) C.bool {
	handler := handlers[C.GoStringN(entry, C.int(length))]
	if handler == nil || callback == nil {
		return false
	}
	s := &session{
		sid: uint32(sid), host: callback, handler: handler,
		starts: make(chan uint8, 4), answers: make(chan answer, 1), closed: make(chan struct{}),
	}
	lock.Lock()
	sessions[s.sid] = s
	lock.Unlock()
	go s.run()
	return true
}

//export event_stream
func event_stream(event *C.NylonFfiBuffer) {
	s := find(uint32(event.sid))
	if s == nil {
		return
	}
	// A host has one phase and one read of a session in flight: if a channel is full, nobody waits for the event.
	if event.phase == 0 {
		select {
		case s.answers <- answer{uint32(event.method), C.GoBytes(unsafe.Pointer(event.ptr), C.int(event.len))}:
		default:
		}
		return
	}
	select {
	case s.starts <- uint8(event.phase):
	default:
	}
}

//export close_session_stream
func close_session_stream(sid C.uint32_t) {
	lock.Lock()
	defer lock.Unlock()
	if s := sessions[uint32(sid)]; s != nil {
		delete(sessions, s.sid)
		close(s.closed)
	}
}

// Every payload belongs to Go, so the host has nothing to free.
//
//export plugin_free
func plugin_free(*C.uint8_t) {}

//export shutdown
func shutdown() {
	lock.Lock()
	defer lock.Unlock()
	for sid, s := range sessions {
		delete(sessions, sid)
		close(s.closed)
	}
}

func main() {}
