import TestSupport
import Testing

@testable import Engine

/// All that loads a plugin into this process: there is one host in a process, so one at a time.
@Suite(.serialized, .thread("ffi")) struct FFITests {}
