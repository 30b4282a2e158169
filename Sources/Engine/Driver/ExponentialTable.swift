import Foundation

/// Draws from the exponential distribution of mean 1 without a logarithm: the ziggurat (Marsaglia and Tsang
/// 2000, J. Stat. Soft. 5(8)), with bits of its own for the layer (Doornik 2005).
///
/// The density lies in 256 layers of the same area. A point of a layer that lies under the density whatever its
/// height, 99 of 100, is taken at once; the exact distribution comes out of the rest.
struct ExponentialTable: @unchecked Sendable {
  // @unchecked: written once, before anybody has it, and never given back.

  private static let layers = 256
  /// Where the tail begins, and the area of each layer; both from the paper, for 256 layers.
  private static let tailStart = 7.697_117_470_131_05
  private static let layerArea = 0.003_949_659_822_581_557

  /// The one table.
  static let shared = ExponentialTable()

  /// Widths of the layers from the lowest up, and 0; the lowest is as wide as a box of its area would be.
  private let widths: UnsafePointer<Double>
  /// The density at each width.
  private let heights: UnsafePointer<Double>

  private init() {
    let widths = UnsafeMutablePointer<Double>.allocate(capacity: Self.layers + 1)
    let heights = UnsafeMutablePointer<Double>.allocate(capacity: Self.layers + 1)
    widths.initialize(repeating: 0, count: Self.layers + 1)
    heights.initialize(repeating: 1, count: Self.layers + 1)
    widths[0] = Self.layerArea * exp(Self.tailStart)
    widths[1] = Self.tailStart
    for layer in 2..<Self.layers {
      let below = widths[layer - 1]
      widths[layer] = -log(exp(-below) + Self.layerArea / below)
    }
    for layer in 0..<Self.layers { heights[layer] = exp(-widths[layer]) }
    self.widths = UnsafePointer(widths)
    self.heights = UnsafePointer(heights)
  }

  /// The next number.
  @inline(__always)
  func next(_ random: inout SplitMix64) -> Double {
    let bits = random.next()
    let layer = Int(bits & 0xFF)
    let value = Double(Int64(bits >> 11)) * 0x1p-53 * widths[layer]
    return value < widths[layer + 1] ? value : edge(value, layer, &random)
  }

  /// A point that may lie over the density.
  @inline(never)
  private func edge(_ value: Double, _ layer: Int, _ random: inout SplitMix64) -> Double {
    var (value, layer) = (value, layer)
    while true {
      // The tail of an exponential distribution is the distribution itself, further out.
      if layer == 0 { return Self.tailStart - log(Self.uniform(&random)) }
      let height = heights[layer] + (heights[layer + 1] - heights[layer]) * Self.uniform(&random)
      if height < exp(-value) { return value }
      let bits = random.next()
      layer = Int(bits & 0xFF)
      value = Double(Int64(bits >> 11)) * 0x1p-53 * widths[layer]
      if value < widths[layer + 1] { return value }
    }
  }

  /// 53 random bits in (0, 1]: the logarithm is finite.
  private static func uniform(_ random: inout SplitMix64) -> Double {
    Double((random.next() >> 11) + 1) * 0x1p-53
  }
}
