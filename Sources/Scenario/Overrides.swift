/// Applies `--set path.to.key=VALUE` to the tree before it is validated.
struct Overrides {
  let problems: ProblemCollector

  /// The tree with all arguments applied, in order; wrong arguments are noted and left out.
  func apply(_ arguments: [String], to root: YAMLValue) -> YAMLValue {
    var root = root
    for argument in arguments {
      let place = ScenarioProblem.Place.argument("--set \(Redaction.assignment(argument))")
      guard let equals = argument.firstIndex(of: "="), equals != argument.startIndex else {
        problems.add(
          at: place, key: "", "is not of the form path.to.key=VALUE",
          remedy: "write for example --set loads.0.concurrency=8")
        continue
      }
      let path = argument[..<equals].split(separator: ".", omittingEmptySubsequences: false).map(String.init)
      guard !path.contains("") else {
        problems.add(
          at: place, key: "", "has an empty name in its path", remedy: "write names between single dots")
        continue
      }
      guard let value = value(String(argument[argument.index(after: equals)...]), place) else { continue }
      if let changed = set(path[...], to: value, in: root, done: [], place) { root = changed }
    }
    return root
  }

  private func value(_ text: String, _ place: ScenarioProblem.Place) -> YAMLValue? {
    var reader = YAMLReader { _, _ in place }
    do {
      return try reader.read(text) ?? YAMLValue(content: .scalar(text: "", plain: true), place: place)
    } catch {
      problems.add(
        at: place, key: "", "has a value that is \(error.message)", remedy: "quote it, also for the shell")
      return nil
    }
  }

  private func set(
    _ path: ArraySlice<String>, to value: YAMLValue, in tree: YAMLValue, done: [String],
    _ place: ScenarioProblem.Place
  ) -> YAMLValue? {
    guard let name = path.first else { return value }
    let key = done.joined(separator: ".")
    switch tree.content {
    case .mapping(var entries):
      let index = entries.firstIndex { $0.key == name }
      let empty = YAMLValue(content: .mapping([]), place: place)
      let old = index.map { entries[$0].value.isNull ? empty : entries[$0].value } ?? empty
      if index == nil, path.count > 1, Int(path[path.startIndex + 1]) != nil {
        problems.add(
          at: place, key: (done + [name]).joined(separator: "."),
          "is not there, so it has no items to number",
          suggestion: Suggestion.nearest(to: name, among: entries.map(\.key)))
        return nil
      }
      guard let child = set(path.dropFirst(), to: value, in: old, done: done + [name], place) else {
        return nil
      }
      if let index {
        entries[index].value = child
      } else {
        entries.append(YAMLValue.Entry(key: name, place: place, value: child))
      }
      return YAMLValue(content: .mapping(entries), place: tree.place)
    case .sequence(var items):
      guard let index = Int(name), items.indices.contains(index) else {
        problems.add(
          at: place, key: key, "has no item '\(name)'",
          remedy: items.isEmpty ? "the list is empty" : "its items are numbered 0 to \(items.count - 1)")
        return nil
      }
      guard let child = set(path.dropFirst(), to: value, in: items[index], done: done + [name], place) else {
        return nil
      }
      items[index] = child
      return YAMLValue(content: .sequence(items), place: tree.place)
    case .scalar:
      problems.add(at: place, key: key, "is a single value and has no key '\(name)'")
      return nil
    }
  }
}
