"""Where the tasks of a sweep are done: one file per engine that can do them."""
