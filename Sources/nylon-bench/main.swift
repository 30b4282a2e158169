// The executable; the implementation is in the Bench module.
import Bench

NylonBench.main()
