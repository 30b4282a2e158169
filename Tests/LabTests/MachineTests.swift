import Foundation
import Engine
import Results
import Testing

@testable import Lab

@Suite struct MachineTests {
  @Test func theFactsOfThisMachineCanBeRead() throws {
    let facts = MachineFacts.read(optimisedBuild: true, versions: ["swift": "6"])
    #expect(try #require(facts.cores) >= 1)
    #expect(try #require(facts.memoryBytes) > 1 << 20)
    #expect(facts.kernel?.isEmpty == false)
    #expect(facts.operatingSystem?.isEmpty == false)
    #expect(facts.optimisedBuild)
    #expect(facts.versions["swift"] == "6")
    #expect(facts.versions["nats-server"]?.first?.isNumber == true)
  }

  @Test func aMachineWithoutFilesHasNoFactsAndDoesNotCrash() {
    #expect(MachineReader(root: "/nowhere").facts() == MachineFacts())
  }

  @Test func theTightestLimitOfTheControlGroupsCounts() throws {
    let root = try FakeRoot([
      "/proc/self/cgroup": "0::/a/b\n",
      "/sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
      "/sys/fs/cgroup/a/cpu.max": "150000 100000\n",
      "/sys/fs/cgroup/cpu.max": "400000 100000\n",
    ])
    #expect(MachineReader(root: root.path).cgroupCores() == 1.5)
  }

  @Test func limitsOfTheOldControlGroupsAreReadToo() throws {
    let root = try FakeRoot([
      "/proc/self/cgroup": "3:cpu,cpuacct:/x\nbad line\n0::/\n",
      "/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "50000\n",
      "/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000\n",
      "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
    ])
    #expect(MachineReader(root: root.path).cgroupCores() == 0.5)
  }

  @Test func whatStandsInTheFilesIsTaken() throws {
    let root = try FakeRoot([
      "/proc/cpuinfo":
        "processor\t: 0\nmodel name\t: Wonder 9: fast\nflags\t\t: fpu hypervisor\nprocessor\t: 1\n",
      "/proc/meminfo": "MemTotal:       2048 kB\n",
      "/proc/loadavg": "0.50 0.1 0.1 1/2 3\n",
      "/etc/os-release": "NAME=x\nPRETTY_NAME=\"Some OS 1\"\n",
      "/sys/devices/system/cpu/cpu0/topology/thread_siblings_list": "0-1,8\n",
    ])
    let facts = MachineReader(root: root.path).facts()
    #expect(facts.cpuModel == "Wonder 9: fast")
    #expect(facts.cores == 2)
    #expect(facts.memoryBytes == 2048 * 1024)
    #expect(facts.loadAverage == 0.5)
    #expect(facts.operatingSystem == "Some OS 1")
    #expect(facts.threadsPerCore == 3)
    #expect(facts.hypervisor == "unknown")
  }

  @Test func theStealShareIsOfTheTimeBetweenTwoReadings() throws {
    let earlier = try #require(SystemTimes.parse("cpu  10 0 10 80 0 0 0 0 5 5\ncpu0 1\n"))
    let later = try #require(SystemTimes.parse("cpu  50 0 10 130 0 0 0 10 9 9\n"))
    #expect(earlier == SystemTimes(total: 100, stolen: 0, idle: 80))
    #expect(later.stealShare(since: earlier) == 0.1)
    #expect(earlier.stealShare(since: later) == 0)
    #expect(later.busyShare(since: earlier) == 0.5)
    #expect(earlier.busyShare(since: earlier) == nil)
    #expect(SystemTimes.parse("nothing") == nil)
    #expect(SystemTimes.now() != nil)
  }

  @Test func theDoctorLooksAtEverythingAndHasARemedyForWhatIsNotRight() {
    let (findings, fitness) = Doctor.examine(optimisedBuild: false)
    let names = findings.map(\.name)
    for name in [
      "nats-server", "nylon-keeper", "nylon-worker", "ExamplePlugin", "build", "cores", "clock source",
      "governor",
      "load", "steal", "timer", "OS jitter", "descriptors",
    ] {
      #expect(names.contains(name))
    }
    #expect(findings.allSatisfy { $0.state == .ok || $0.remedy != nil })
    #expect(findings.first { $0.name == "build" }?.state == .warn)
    #expect(findings.first { $0.name == "nylon-keeper" }?.state == .ok)
    // A debug build's figures are invalid.
    #expect(fitness.grade == .unfit && fitness.reasons.contains { $0.hasPrefix("build: ") })
    #expect(!fitness.jitter.isEmpty && fitness.jitter.allSatisfy { $0.lostShare >= 0 && $0.lostShare <= 1 })
  }

  private static func finding(_ name: String, _ facts: MachineFacts, steal: Double) -> DoctorFinding? {
    Doctor.findings(facts, steal: steal).first { $0.name == name }
  }

  @Test func theDoctorWarnsOfWhatSpoilsFigures() {
    var facts = MachineFacts()
    (facts.cores, facts.cgroupCores, facts.governor) = (8, 1.5, "powersave")
    (facts.clockSource, facts.loadAverage) = ("hpet", 5)
    for name in ["cores", "governor", "clock source", "load", "steal"] {
      #expect(Self.finding(name, facts, steal: 0.06)?.state == .warn)
    }
    #expect(Self.finding("steal", facts, steal: 0.01)?.state == .ok)
  }

  @Test func theGradeIsTheWorstThatAFindingGives() throws {
    var facts = MachineFacts()
    (facts.cores, facts.loadAverage) = (2, 0)
    let cores = try #require(Self.finding("cores", facts, steal: 0))
    let calmed = try #require(Self.finding("steal", facts, steal: 0))
    let stolen = try #require(Self.finding("steal", facts, steal: 0.5))
    #expect(Doctor.judge([calmed], []).grade == .fit)
    #expect(Doctor.judge([cores], []).grade == .limited)
    let calm = MachineFitness.CoreJitter(
      core: 0, interruptionsPerSecond: 100, lostShare: 0.001, longestMicroseconds: 20)
    var busy = calm
    busy.lostShare = 0.4
    #expect(Doctor.judge([Doctor.jitter([calm])], [calm]).grade == .fit)
    let disturbed = Doctor.judge([cores, Doctor.jitter([calm, busy])], [calm, busy])
    #expect(disturbed.grade == .disturbed && disturbed.reasons.count == 2)
    #expect(Doctor.judge([cores, stolen], []).grade == .unfit)
  }
}

/// A folder that looks like the root of a machine; removed with the object.
private final class FakeRoot {
  let path: String

  init(_ files: [String: String]) throws {
    path = NSTemporaryDirectory() + "lab-\(UUID().uuidString)"
    for (name, text) in files {
      let file = URL(fileURLWithPath: path + name)
      try FileManager.default.createDirectory(
        at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
      try text.write(to: file, atomically: false, encoding: .utf8)
    }
  }

  deinit {
    try? FileManager.default.removeItem(atPath: path)
  }
}
