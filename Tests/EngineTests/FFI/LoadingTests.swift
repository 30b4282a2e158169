import Foundation
import Nylon
import Testing

@testable import Engine

extension FFITests {
  @Suite struct Loading {
    private func error(of path: String) -> PluginError? {
      do {
        _ = try PluginLibrary(path: path)
        return nil
      } catch { return error }
    }

    @Test func aFileThatIsNotThereIsSaidToBeMissing() throws {
      let workshop = try Workshop()
      let path = workshop.folder + "/none.so"
      #expect(error(of: path) == .missing(path: path))
      #expect(error(of: path + "/below") == .missing(path: path + "/below"))
    }

    @Test func aFileThatIsNoLibraryIsSaidToBeNone() throws {
      let workshop = try Workshop()
      let path = workshop.folder + "/text.so"
      try "not a library".write(toFile: path, atomically: true, encoding: .utf8)
      guard case .notALibrary(path, _) = try #require(error(of: path)) else {
        Issue.record("a text was taken for a library")
        return
      }
      try Data([0x7F, 0x45, 0x4C, 0x46, 2, 1]).write(to: URL(fileURLWithPath: path))
      guard case .notALibrary(path, _) = try #require(error(of: path)) else {
        Issue.record("a torn library was taken for one")
        return
      }
      guard case .notALibrary = try #require(error(of: workshop.folder)) else {
        Issue.record("a folder was taken for a library")
        return
      }
    }

    @Test func aFileThatMayNotBeReadIsSaidToBeUnreadable() throws {
      // Root may read everything: what it cannot read either is a loop of links.
      let workshop = try Workshop()
      let path = workshop.folder + "/loop.so"
      try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: path)
      guard case .unreadable(path, _) = try #require(error(of: path)) else {
        Issue.record("an unreadable file was taken for something else")
        return
      }
    }

    @Test func aLibraryWithoutSomeOfTheSymbolsNamesThem() throws {
      let workshop = try Workshop()
      let path = try workshop.compile(
        "void initialize(void) {} void event_stream(void) {} void shutdown(void) {} void plugin_free(void) {}"
      )
      #expect(
        error(of: path)
          == .symbolsMissing(path: path, symbols: ["register_session_stream", "close_session_stream"]))
    }

    @Test func aLibraryThatNeedsAnotherThatIsMissingSaysSo() throws {
      let workshop = try Workshop()
      let path = try workshop.compile("void none_such(void); void initialize(void) { none_such(); }")
      guard case .notLoadable(path, let why) = try #require(error(of: path)) else {
        Issue.record("a library with an unknown symbol was loaded")
        return
      }
      #expect(why.contains("none_such"))
    }

    @Test func aHandlerThatThePluginDoesNotHaveIsFoundOutBeforeTheLoad() throws {
      let plugin = try ScriptedPlugin(ScriptedCall.next())
      var load = FFILoad()
      load.handler = "scripts"
      #expect(throws: PluginError.noSuchEntry(path: plugin.library.path, entry: "scripts")) {
        _ = try load.run(plugin.library)
      }
      #expect(try plugin.count("count_opened") == 0)
      #expect(try plugin.count("count_closed") == 0)
    }

    @Test func theConfigurationArrivesWithItsLengthAndWithoutAnEnd() throws {
      let plugin = try ScriptedPlugin([])
      plugin.library.start(configJSON: #"{"name": "ü"}"#)
      let configured = try plugin.symbol("configured", as: (@convention(c) () -> UnsafePointer<CChar>).self)
      #expect(String(cString: configured()) == #"{"name": "ü"}"#)
    }
  }
}
