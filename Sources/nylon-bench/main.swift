print("nylon-bench")
