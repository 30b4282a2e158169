//! An in-process plugin in Rust: the handlers noop, authz and work, on the plugin's own thread. No crates.
//!
//!     rustc --edition 2021 -O --crate-type cdylib -o plugin-rust.so plugin.rs
//!
//! The host starts a phase with `event_stream`, which only passes it to the thread. A handler reads by calling the
//! callback; the answer arrives through `event_stream`, with phase 0, while the handler waits for it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender, TryRecvError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One event, in either direction. `ptr` is valid only during the call.
#[repr(C)]
pub struct FfiBuffer {
    sid: u32,
    phase: u8,
    method: u32,
    ptr: *const u8,
    len: u64,
}

type Callback = extern "C" fn(*const FfiBuffer);
type Handler = fn(&Context) -> Result<(), Closed>;

const REQUEST_FILTER: u8 = 1;
const RESPONSE_FILTER: u8 = 2;
const LOGGING: u8 = 4;

const NEXT: u32 = 1;
const SET_RESPONSE_HEADER: u32 = 100;
const READ_RESPONSE_STATUS: u32 = 108;
const READ_RESPONSE_DURATION: u32 = 111;
const READ_REQUEST_PATH: u32 = 204;
const READ_REQUEST_METHOD: u32 = 209;

/// The session was closed while its handler waited for the host.
struct Closed;

/// A phase that the host has started.
struct Start {
    sid: u32,
    phase: u8,
}

/// An answer that the running handler may wait for; `data` is `None` when its session was closed.
struct Answer {
    method: u32,
    data: Option<Vec<u8>>,
}

struct Session {
    handler: Handler,
    host: Callback,
}

/// Shared by the host's threads and the plugin's. The plugin's thread ends when the senders are dropped.
struct Plugin {
    sessions: HashMap<u32, Session>,
    /// The session whose handler runs.
    running: u32,
    starts: Sender<Start>,
    answers: Sender<Answer>,
    thread: JoinHandle<()>,
}

static PLUGIN: Mutex<Option<Plugin>> = Mutex::new(None);
static WORK_US: AtomicU64 = AtomicU64::new(100);

fn plugin() -> MutexGuard<'static, Option<Plugin>> {
    PLUGIN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One phase of one session, as its handler sees it.
struct Context<'a> {
    sid: u32,
    phase: u8,
    host: Callback,
    answers: &'a Receiver<Answer>,
}

impl Context<'_> {
    fn call(&self, phase: u8, method: u32, payload: &[u8]) {
        let ptr = if payload.is_empty() {
            std::ptr::null()
        } else {
            payload.as_ptr()
        };
        (self.host)(&FfiBuffer {
            sid: self.sid,
            phase,
            method,
            ptr,
            len: payload.len() as u64,
        });
    }

    fn next(&self) {
        self.call(self.phase, NEXT, &[]);
    }

    fn set_response_header(&self, key: &str, value: &str) {
        self.call(
            self.phase,
            SET_RESPONSE_HEADER,
            &header_key_value(key, value),
        );
    }

    /// Asks the host for a string and waits for it.
    fn read(&self, method: u32) -> Result<String, Closed> {
        self.call(0, method, &[]);
        loop {
            let answer = receive(self.answers).ok_or(Closed)?;
            let data = answer.data.ok_or(Closed)?;
            if answer.method == method {
                return Ok(String::from_utf8_lossy(&data).into_owned());
            }
        }
    }
}

/// The FlatBuffers table `HeaderKeyValue {key, value}`. Offsets are relative to their own position.
fn header_key_value(key: &str, value: &str) -> Vec<u8> {
    fn put(bytes: &mut Vec<u8>, number: usize) {
        bytes.extend_from_slice(&(number as u32).to_le_bytes());
    }
    fn put_string(bytes: &mut Vec<u8>, text: &str) {
        put(bytes, text.len());
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
        bytes.resize((bytes.len() + 3) & !3, 0);
    }
    let mut bytes = Vec::with_capacity(40 + key.len() + value.len());
    // The table is 12 bytes from here.
    put(&mut bytes, 12);
    // The vtable: the sizes of itself and of the table, and the positions of key and value in the table.
    bytes.extend_from_slice(&[8, 0, 12, 0, 4, 0, 8, 0]);
    // The table: the vtable is 8 bytes before; then the offsets of key and value.
    put(&mut bytes, 8);
    put(&mut bytes, 8);
    put(&mut bytes, 4 + ((4 + key.len() + 1 + 3) & !3));
    put_string(&mut bytes, key);
    put_string(&mut bytes, value);
    bytes
}

// The handlers

/// The last lines of the access log, in memory: a handler under load must not wait for a terminal.
static ACCESS_LOG: Mutex<Option<VecDeque<String>>> = Mutex::new(None);
const LOG_LINES: usize = 1024;

fn log_access(line: String) {
    let mut log = ACCESS_LOG.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = log.get_or_insert_with(VecDeque::new);
    if lines.len() == LOG_LINES {
        lines.pop_front();
    }
    lines.push_back(line);
}

fn noop(ctx: &Context) -> Result<(), Closed> {
    ctx.next();
    Ok(())
}

/// Does two reads, sets two headers and logs a line.
fn authz(ctx: &Context) -> Result<(), Closed> {
    match ctx.phase {
        REQUEST_FILTER => {
            let _ = (ctx.read(READ_REQUEST_METHOD)?, ctx.read(READ_REQUEST_PATH)?);
            ctx.set_response_header("X-Plugin-Transport", "FFI");
        }
        RESPONSE_FILTER => ctx.set_response_header("X-Processed-By", "FFI-Plugin"),
        LOGGING => {
            let (method, path) = (ctx.read(READ_REQUEST_METHOD)?, ctx.read(READ_REQUEST_PATH)?);
            let status = ctx.read(READ_RESPONSE_STATUS)?;
            let duration = ctx.read(READ_RESPONSE_DURATION)?;
            log_access(format!("{} {} {} {} ms", method, path, status, duration));
        }
        _ => {}
    }
    ctx.next();
    Ok(())
}

/// Burns CPU in the request filter.
fn work(ctx: &Context) -> Result<(), Closed> {
    if ctx.phase == REQUEST_FILTER {
        let end = Instant::now() + Duration::from_micros(WORK_US.load(Ordering::Relaxed));
        while Instant::now() < end {}
    }
    ctx.next();
    Ok(())
}

fn handler(name: &[u8]) -> Option<Handler> {
    match name {
        b"noop" => Some(noop),
        b"authz" => Some(authz),
        b"work" => Some(work),
        _ => None,
    }
}

// The plugin's thread

/// Waits for the next item: spins for some microseconds, since a sleeping thread takes longer to wake, then sleeps.
fn receive<Item>(from: &Receiver<Item>) -> Option<Item> {
    for _ in 0..200 {
        match from.try_recv() {
            Ok(item) => return Some(item),
            Err(TryRecvError::Empty) => std::hint::spin_loop(),
            Err(TryRecvError::Disconnected) => return None,
        }
    }
    from.recv().ok()
}

fn run_phases(starts: Receiver<Start>, answers: Receiver<Answer>) {
    while let Some(Start { sid, phase }) = receive(&starts) {
        let session = plugin().as_mut().and_then(|plugin| {
            plugin.running = sid;
            // Remaining answers belong to a session that was closed meanwhile.
            while answers.try_recv().is_ok() {}
            plugin
                .sessions
                .get(&sid)
                .map(|session| (session.handler, session.host))
        });
        if let Some((handler, host)) = session {
            // A closed session gets no answer: the host no longer waits for it.
            let _ = handler(&Context {
                sid,
                phase,
                host,
                answers: &answers,
            });
        }
    }
}

fn start() -> Plugin {
    let (starts, taken_starts) = channel();
    let (answers, taken_answers) = channel();
    let thread = std::thread::spawn(move || run_phases(taken_starts, taken_answers));
    Plugin {
        sessions: HashMap::new(),
        running: 0,
        starts,
        answers,
        thread,
    }
}

// The six symbols

/// The bytes passed by the host; empty when it passes none.
///
/// # Safety
/// `ptr` must be null or point to `len` bytes that do not change while the result is used.
unsafe fn bytes<'a>(ptr: *const u8, len: usize) -> &'a [u8] {
    if ptr.is_null() || len == 0 {
        &[]
    } else {
        std::slice::from_raw_parts(ptr, len)
    }
}

#[no_mangle]
pub extern "C" fn initialize(config_json: *const u8, length: i32) {
    let json = unsafe { bytes(config_json, length.max(0) as usize) };
    // A plugin that reads more than one number should use a JSON library.
    let text = String::from_utf8_lossy(json);
    let number = text.split_once("\"work_us\"").and_then(|(_, rest)| {
        let rest = rest.trim_start().strip_prefix(':')?.trim_start();
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        rest[..end].parse().ok()
    });
    if let Some(number) = number {
        WORK_US.store(number, Ordering::Relaxed);
    }
}

#[no_mangle]
pub extern "C" fn register_session_stream(
    sid: u32,
    entry: *const u8,
    length: u32,
    callback: Option<Callback>,
) -> bool {
    match (handler(unsafe { bytes(entry, length as usize) }), callback) {
        (Some(handler), Some(host)) => {
            let mut plugin = plugin();
            plugin
                .get_or_insert_with(start)
                .sessions
                .insert(sid, Session { handler, host });
            true
        }
        _ => false,
    }
}

#[no_mangle]
pub extern "C" fn event_stream(event: *const FfiBuffer) {
    let event = unsafe { &*event };
    let data = unsafe { bytes(event.ptr, event.len as usize) };
    if let Some(plugin) = plugin().as_ref() {
        // A send fails only when the thread has ended.
        let _ = match event.phase {
            0 if plugin.running != event.sid => Ok(()),
            0 => {
                let answer = Answer {
                    method: event.method,
                    data: Some(data.to_vec()),
                };
                plugin.answers.send(answer).map_err(|_| ())
            }
            phase => plugin
                .starts
                .send(Start {
                    sid: event.sid,
                    phase,
                })
                .map_err(|_| ()),
        };
    }
}

#[no_mangle]
pub extern "C" fn close_session_stream(sid: u32) {
    if let Some(plugin) = plugin().as_mut() {
        plugin.sessions.remove(&sid);
        if plugin.running == sid {
            let _ = plugin.answers.send(Answer {
                method: 0,
                data: None,
            });
        }
    }
}

/// Every payload is dropped after the callback, so the host has nothing to free.
#[no_mangle]
pub extern "C" fn plugin_free(_: *mut u8) {}

#[no_mangle]
pub extern "C" fn shutdown() {
    let gone = plugin().take();
    if let Some(Plugin {
        starts,
        answers,
        thread,
        ..
    }) = gone
    {
        drop((starts, answers));
        let _ = thread.join();
    }
}
