import Testing

@testable import Bench

@Suite("What a terminal gets") struct ConsoleTests {
  @Test(
    "commands nothing but our own colours",
    arguments: [
      ("plain\n\ttext\r\n", "plain\n\ttext\r\n"), ("a\u{1b}[2Jb", "a [2Jb"),
      ("\u{1b}]0;title\u{7}", " ]0;title "),
      ("\u{1b}[1mbold\u{1b}[0m", "\u{1b}[1mbold\u{1b}[0m"), ("\u{1b}[1;1H", " [1;1H"), ("\u{9b}2J", " 2J"),
      ("\u{1b}\u{1b}[31mred", " \u{1b}[31mred"), ("\u{202e}abc", " abc"), ("\u{1b}", " "), ("", ""),
    ])
  func words(text: String, shown: String) {
    #expect(Console.harmless(text) == shown)
  }
}
