// The command. What it does is in Bench.
import Bench

NylonBench.main()
