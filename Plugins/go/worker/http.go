package main

import (
	"encoding/binary"
	"strings"
)

// Hand-written code for the FlatBuffers tables of nylon_plugin.fbs that a worker needs; flatc and the module
// github.com/google/flatbuffers do the same for all tables. Every offset is relative to its own position.

// table is a table in place. Reading past its bytes panics.
type table struct {
	bytes []byte
	place uint32
}

func (t table) uint16(place uint32) uint16 { return binary.LittleEndian.Uint16(t.bytes[place:]) }
func (t table) uint32(place uint32) uint32 { return binary.LittleEndian.Uint32(t.bytes[place:]) }

// follow resolves the offset at a position.
func (t table) follow(place uint32) uint32 { return place + t.uint32(place) }

// field is the position of a field's value, 0 if the field or the table is absent. Fields are numbered from 0 in the
// order of their declaration.
func (t table) field(number uint32) uint32 {
	if t.bytes == nil {
		return 0
	}
	vtable := t.place - t.uint32(t.place)
	entry := 4 + 2*number
	if entry >= uint32(t.uint16(vtable)) {
		return 0
	}
	offset := uint32(t.uint16(vtable + entry))
	if offset == 0 {
		return 0
	}
	return t.place + offset
}

func (t table) child(number uint32) table {
	if place := t.field(number); place != 0 {
		return table{t.bytes, t.follow(place)}
	}
	return table{}
}

func (t table) text(number uint32) string {
	place := t.field(number)
	if place == 0 {
		return ""
	}
	start := t.follow(place)
	return string(t.bytes[start+4 : start+4+t.uint32(start)])
}

func (t table) children(number uint32) []table {
	place := t.field(number)
	if place == 0 {
		return nil
	}
	start := t.follow(place)
	children := make([]table, t.uint32(start))
	for index := range children {
		children[index] = table{t.bytes, t.follow(start + 4 + 4*uint32(index))}
	}
	return children
}

type header struct{ key, value string }

// httpContext is the table NylonHttpContext of a request, with the new response headers.
type httpContext struct {
	request, response table
	headers           []header
}

func newHTTPContext(data []byte) httpContext {
	if len(data) == 0 {
		return httpContext{}
	}
	root := table{bytes: data}
	root.place = root.follow(0)
	context := httpContext{request: root.child(0), response: root.child(1)}
	for _, pair := range context.response.children(1) {
		context.headers = append(context.headers, header{pair.text(0), pair.text(1)})
	}
	return context
}

func (c *httpContext) method() string { return c.request.text(0) }
func (c *httpContext) path() string   { return c.request.text(1) }

func (c *httpContext) status() uint16 {
	if place := c.response.field(0); place != 0 {
		return c.response.uint16(place)
	}
	return 200
}

// setResponseHeader replaces the header, ignoring the case of its name.
func (c *httpContext) setResponseHeader(key, value string) {
	kept := c.headers[:0]
	for _, header := range c.headers {
		if !strings.EqualFold(header.key, key) {
			kept = append(kept, header)
		}
	}
	c.headers = append(kept, header{key, value})
}

// changes is the table NylonHttpContext with the response headers, which are always a complete new list.
func (c *httpContext) changes() []byte {
	var w writer
	root := w.offset()
	response := w.table(root, 0, 4)    // NylonHttpContext {request, response}
	headers := w.table(response, 0, 4) // NylonHttpResponse {status, headers, body}
	w.point(headers)
	w.uint32(uint32(len(c.headers)))
	pairs := len(w)
	for range c.headers {
		w.offset()
	}
	for index, header := range c.headers {
		value := w.table(pairs+4*index, 4, 8) // KeyValue {key, value}
		w.text(value-4, header.key)
		w.text(value, header.value)
	}
	return w
}

// writer writes parents before their children, and fills in an offset when its child is written.
type writer []byte

func (w *writer) uint32(number uint32) { *w = binary.LittleEndian.AppendUint32(*w, number) }

// offset reserves space for an offset and returns its position.
func (w *writer) offset() int {
	w.uint32(0)
	return len(*w) - 4
}

// point makes the offset at a position refer to whatever is written next.
func (w writer) point(place int) { binary.LittleEndian.PutUint32(w[place:], uint32(len(w)-place)) }

// table writes a vtable and its table, whose first two fields are at the given distances from its start, 0 for an
// absent one. It makes the offset at a position refer to the table, and returns the position of the second field.
func (w *writer) table(from int, first, second byte) int {
	*w = append(*w, 8, 0, second+4, 0, first, 0, second, 0)
	w.point(from)
	w.uint32(8) // distance back to the vtable
	for bytes := byte(4); bytes <= second; bytes += 4 {
		w.offset()
	}
	return len(*w) - 4
}

// text writes a string and makes the offset at a position refer to it.
func (w *writer) text(from int, text string) {
	w.point(from)
	w.uint32(uint32(len(text)))
	*w = append(append(*w, text...), 0)
	for len(*w)%4 != 0 {
		*w = append(*w, 0)
	}
}
