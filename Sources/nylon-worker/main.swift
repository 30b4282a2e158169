print("nylon-worker")
